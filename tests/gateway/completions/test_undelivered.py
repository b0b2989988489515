"""What the client is not sent is not billed, and what is billed is sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from farebox.core.database import Database
from farebox.gateway.completions.writers.chat import ChatWriter
from tests.gateway.completions.test_departures import FREED_SECONDS, LONG, running, until
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant

SHORT = LONG | {"max_tokens": 40}


def posting(path: str, authorization: bytes, asked: object) -> bytes:
    body = json.dumps(asked).encode()
    return (
        b"POST %s HTTP/1.1\r\nHost: farebox\r\nContent-Type: application/json\r\n" % path.encode()
        + authorization
        + b"Content-Length: %d\r\n\r\n" % len(body)
        + body
    )


@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nX-Y: " + b"a" * 40_000])
async def test_an_answer_in_whose_place_the_connection_was_refused_is_not_billed(
    server: RunningServer, database: Database, tenant: Tenant, tenant_authorization: bytes, rubbish: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(posting("/v1/chat/completions", tenant_authorization, SHORT))
    await until(lambda: running(server) == 1, 5)
    writer.write(rubbish)
    async with asyncio.timeout(10):
        answer = await reader.read()
    await until(lambda: len(server.gateway.runs) == 0, 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1") == 1
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


@asynccontextmanager
async def settlements_wait(database_url: str, tenant: Tenant) -> AsyncIterator[None]:
    """As long as the context is open, nothing of this tenant is admitted or settled."""
    blocker = await asyncpg.connect(database_url)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM meter_scope WHERE id = $1 FOR UPDATE", tenant.organization_id)
        yield
    await blocker.close()


@pytest.fixture
def own_server(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """One that may be drained."""
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("drained")), database_url, None)
    yield thread.start()
    thread.stop()


async def test_an_answer_being_settled_when_the_drain_is_over_is_still_sent(
    own_server: RunningServer, database: Database, database_url: str, tenant: Tenant
) -> None:
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    async with httpx.AsyncClient(base_url=own_server.url, headers=headers, timeout=30) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=SHORT))
        await until(lambda: running(own_server) == 1, 5)
        async with settlements_wait(database_url, tenant):
            await until(lambda: running(own_server) == 0, 5)
            draining = asyncio.create_task(own_server.call(lambda: own_server.gateway.runs.drain(0.0)))
            await until(lambda: own_server.gateway.runs.draining, 5)
            await own_server.call(lambda: asyncio.sleep(0))
        answer = await asking
        await draining
    books = await read_books(database, tenant.organization_id)
    assert [event.status for event in books.events] == ["completed"]
    assert answer.status_code == 200


async def test_who_left_while_being_admitted_costs_no_work_and_no_money(
    server: RunningServer,
    database: Database,
    database_url: str,
    tenant: Tenant,
    tenant_authorization: bytes,
) -> None:
    served = server.gateway.catalog.find("tiny")
    assert served is not None
    before = served.generator.stats()
    async with settlements_wait(database_url, tenant):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(posting("/v1/chat/completions", tenant_authorization, LONG))
        await until(lambda: server.gateway.meter._admissions._runner is not None, 5)  # noqa: SLF001
        writer.close()
        await writer.wait_closed()
    meter = server.gateway.meter
    await until(lambda: meter._admissions._runner is None, 5)  # noqa: SLF001
    await until(lambda: running(server) == len(server.gateway.runs) == meter.live_requests == 0, 5)
    assert not (await read_books(database, tenant.organization_id)).holds
    assert not (await read_books(database, tenant.organization_id)).events
    after = served.generator.stats()
    assert (after.prompt_tokens, after.completion_tokens) == (before.prompt_tokens, before.completion_tokens)


async def test_an_answer_that_cannot_be_written_is_not_billed(
    http: httpx.AsyncClient, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    monkeypatch.setattr(ChatWriter, "document", fail)
    answer = await http.post("/v1/chat/completions", json=SHORT)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


async def test_a_drain_that_ends_before_the_answer_says_so_and_bills_nothing(
    own_server: RunningServer, database: Database, tenant: Tenant
) -> None:
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    async with httpx.AsyncClient(base_url=own_server.url, headers=headers, timeout=30) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=LONG))
        await until(lambda: running(own_server) == 1, 5)
        await own_server.call(lambda: own_server.gateway.runs.drain(0.0))
        answer = await asking
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "service_unavailable"
    assert not (await read_books(database, tenant.organization_id)).events


async def read_answers(reader: asyncio.StreamReader, count: int) -> list[bytes]:
    """Whole answers, each of a known length, off one connection."""
    answers = []
    for _ in range(count):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.splitlines() if line.startswith(b"content-length:"))
        answers.append(head + await reader.readexactly(length))
    return answers


async def test_pipelined_answers_and_a_stream_share_a_connection_and_each_is_billed(
    server: RunningServer, database: Database, tenant: Tenant, tenant_authorization: bytes
) -> None:
    stream = SHORT | {"stream": True}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    async with asyncio.timeout(20):
        writer.write(posting("/v1/chat/completions", tenant_authorization, SHORT) * 2)
        answers = await read_answers(reader, 2)
        writer.write(posting("/v1/chat/completions", tenant_authorization, stream))
        await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        writer.write(posting("/v1/chat/completions", tenant_authorization, SHORT))
        answers += await read_answers(reader, 1)
    writer.close()
    assert [answer[:12] for answer in answers] == [b"HTTP/1.1 200"] * 3
    books = await read_books(database, tenant.organization_id)
    assert [event.status for event in books.events] == ["completed"] * 4
    assert {event.output_tokens for event in books.events} == {40}


def pipelined(server: RunningServer) -> int:
    return sum(len(protocol.pipeline) for protocol in server.connections)


async def test_who_leaves_two_pipelined_requests_pays_for_none(
    server: RunningServer, database: Database, tenant: Tenant, tenant_authorization: bytes
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for _ in range(2):  # the second comes when the first is under way
        writer.write(posting("/v1/chat/completions", tenant_authorization, LONG))
        await until(lambda: running(server) == 1, 5)
    await until(lambda: pipelined(server) == 1, 5)
    writer.close()
    await writer.wait_closed()
    assert await until(lambda: running(server) == 0, 5) < FREED_SECONDS
    await until(lambda: len(server.gateway.runs) == server.gateway.meter.live_requests == 0, 5)
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


async def test_a_refused_request_behind_a_stream_breaks_it_off(
    server: RunningServer, database: Database, tenant: Tenant, tenant_authorization: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(posting("/v1/chat/completions", tenant_authorization, LONG | {"stream": True}))
    async with asyncio.timeout(10):
        await reader.readuntil(b"data: ")
        writer.write(posting("/v1/chat/completions", tenant_authorization, SHORT) + b"\x16\x03\x01\r\n\r\n")
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
    writer.close()
    assert b"HTTP/1.1" not in rest
    await until(lambda: len(server.gateway.runs) == server.gateway.meter.live_requests == 0, 5)
    (event,) = (await read_books(database, tenant.organization_id)).events
    assert event.status == "cancelled"
