"""What the client is not sent is not billed, and what is billed is sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from farebox.billing.models import ModelOffer
from farebox.core.database import Database
from farebox.core.ids import external
from farebox.gateway.models.generation import Chunk, Generation, GenerationRequest
from farebox.gateway.models.local import LocalBackend
from farebox.metering.meter import Meter
from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from tests.gateway.completions.test_departures import FREED_STEPS, LONG, running, steps
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.metering.cut_wire import CutWire
from tests.metering.factories import read_books
from tests.metering.outages import expire_handover
from tests.tenants.factories import Tenant
from tests.waiting import WAIT_SECONDS, until

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
    await until(lambda: running(server) == 1)
    writer.write(rubbish)
    async with asyncio.timeout(WAIT_SECONDS):
        answer = await reader.read()
    await until(lambda: len(server.gateway.runs) == 0)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 4")
    assert answer.count(b"HTTP/1.1") == 1
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


@dataclass(frozen=True)
class Blocker:
    """A transaction that others wait for."""

    connection: asyncpg.Connection

    async def blocks(self) -> None:
        """Return once somebody waits."""
        waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
        async with asyncio.timeout(WAIT_SECONDS):
            while not await self.connection.fetchval(waiting):  # noqa: ASYNC110  Postgres tells nobody
                await asyncio.sleep(0.01)


@asynccontextmanager
async def settlements_wait(database_url: str, tenant: Tenant) -> AsyncIterator[Blocker]:
    """As long as the context is open, nothing of this tenant is admitted or settled."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction():
        await connection.execute("SELECT FROM meter_scope WHERE id = $1 FOR UPDATE", tenant.organization_id)
        yield Blocker(connection)
    await connection.close()


@pytest.fixture
def own_server(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """One that may be drained."""
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("drained")), database_url)
    yield thread.start()
    thread.stop()


async def test_an_answer_being_settled_when_the_drain_is_over_is_still_sent(
    own_server: RunningServer, database: Database, database_url: str, tenant: Tenant
) -> None:
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    async with httpx.AsyncClient(base_url=own_server.url, headers=headers, timeout=WAIT_SECONDS) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=SHORT))
        await until(lambda: running(own_server) == 1)
        async with settlements_wait(database_url, tenant):
            await until(lambda: running(own_server) == 0)
            draining = asyncio.create_task(own_server.call(lambda: own_server.gateway.runs.drain(0.0)))
            await until(lambda: own_server.gateway.runs.draining)
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
    async with settlements_wait(database_url, tenant) as blocker:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(posting("/v1/chat/completions", tenant_authorization, LONG))
        await blocker.blocks()
        writer.close()
        await writer.wait_closed()
    meter = server.gateway.meter
    await server.call(meter.drain)
    await until(lambda: running(server) == len(server.gateway.runs) == meter.live_requests == 0)
    assert not (await read_books(database, tenant.organization_id)).holds
    assert not (await read_books(database, tenant.organization_id)).events
    after = served.generator.stats()
    assert (after.prompt_tokens, after.completion_tokens) == (before.prompt_tokens, before.completion_tokens)


@pytest.fixture
async def sweeper(database_url: str, tmp_path: Path) -> AsyncIterator[Meter]:
    """Of a replica that has stood for long enough."""
    meter = await Meter.open(
        make_settings(tmp_path), database_url, tmp_path, turn_seconds=None, sweep_grace=timedelta()
    )
    yield meter
    await meter.close()


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[CutWire]:
    async with CutWire(database_url) as wire:
        yield wire


@pytest.fixture
async def wired_server(
    wire: CutWire, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningServer]:
    """One whose way to Postgres can be held up."""
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("wired")), wire.url)
    yield await asyncio.to_thread(thread.start)
    await asyncio.to_thread(thread.stop)


async def test_who_leaves_while_a_whole_answer_is_settled_gets_the_bill_back(
    wire: CutWire,
    wired_server: RunningServer,
    database: Database,
    tenant: Tenant,
    tenant_authorization: bytes,
    sweeper: Meter,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", wired_server.port)
    writer.write(posting("/v1/chat/completions", tenant_authorization, SHORT))
    async with asyncio.timeout(WAIT_SECONDS):
        [first] = await read_answers(reader, 1)  # from now on the way of settlements stands
    with capture_logs() as logs:
        writer.write(posting("/v1/chat/completions", tenant_authorization, SHORT))
        await until(lambda: running(wired_server) == 1)
        wire.listening.clear()
        async with asyncio.timeout(WAIT_SECONDS):
            await wire.held_up.wait()
        writer.close()
        await writer.wait_closed()
        await until(lambda: not wired_server.connections)
        wire.listening.set()
        await until(lambda: any(line.get("outcome") == "undelivered" for line in logs))
    (line,) = [line for line in logs if line.get("outcome") == "undelivered"]
    assert (line["event"], line["amount"], line["output_tokens"]) == ("request.completed", 0, 0)
    events = (await read_books(database, tenant.organization_id)).events
    assert [(event.status, event.output_tokens) for event in events] == [("completed", 40)] * 2
    (second,) = [
        event.request_id for event in events if external("req", event.request_id).encode() not in first
    ]
    await expire_handover(database, second)
    await sweeper.sweep()
    (credit,) = (await read_books(database, tenant.organization_id)).amendments
    assert (credit.status, credit.request_id) == ("undelivered", second)


async def test_an_answer_that_left_is_confirmed(
    server: RunningServer, http: httpx.AsyncClient, database: Database, tenant: Tenant
) -> None:
    asked = [
        ("chat/completions", SHORT),
        ("completions", {"model": "tiny", "prompt": "Hello", "max_tokens": 2}),
    ]
    for path, body in asked:
        assert (await http.post(f"/v1/{path}", json=body)).status_code == 200
    events = (await read_books(database, tenant.organization_id)).events
    await until(lambda: len(server.gateway.runs) == 0)
    await server.call(server.gateway.meter.turn)
    async with database.meter_transaction() as session:
        on_their_way = set(await session.scalars(text("SELECT request_id FROM handover")))
    assert len(events) == 2
    assert not on_their_way & {event.request_id for event in events}


class Unwritable:
    """Answers of which no JSON can be made: each piece is half a surrogate pair."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        async for chunk in self._generation:
            yield chunk._replace(text="\ud800")

    def tap(self, take: Callable[[Chunk], bool]) -> None:
        """Nothing is handed over at once."""

    def mark_served(self) -> None:
        self._generation.mark_served()

    def cancel(self) -> None:
        self._generation.cancel()


class UnwritableBackend(LocalBackend):
    def generate(self, request: GenerationRequest) -> Generation:
        return Unwritable(super().generate(request))


def unwritable(offer: ModelOffer) -> LocalBackend:
    return UnwritableBackend(Engine.load(offer.path, EngineConfig(device="cpu", threads=1)))


@pytest.fixture
def unwritable_server(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("unwritable")), database_url, unwritable)
    yield thread.start()
    thread.stop()


async def test_an_answer_that_cannot_be_written_is_not_billed(
    unwritable_server: RunningServer, database: Database, tenant: Tenant
) -> None:
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    async with httpx.AsyncClient(
        base_url=unwritable_server.url, headers=headers, timeout=WAIT_SECONDS
    ) as http:
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
    async with httpx.AsyncClient(base_url=own_server.url, headers=headers, timeout=WAIT_SECONDS) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=LONG))
        await until(lambda: running(own_server) == 1)
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
    async with asyncio.timeout(WAIT_SECONDS):
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
        await until(lambda: running(server) == 1)
    await until(lambda: pipelined(server) == 1)
    before = steps(server)
    writer.close()
    await writer.wait_closed()
    await until(lambda: running(server) == 0)
    assert steps(server) - before < FREED_STEPS
    await until(lambda: len(server.gateway.runs) == server.gateway.meter.live_requests == 0)
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


async def test_a_refused_request_behind_a_stream_breaks_it_off(
    server: RunningServer, database: Database, tenant: Tenant, tenant_authorization: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(posting("/v1/chat/completions", tenant_authorization, LONG | {"stream": True}))
    async with asyncio.timeout(WAIT_SECONDS):
        await reader.readuntil(b"data: ")
        writer.write(posting("/v1/chat/completions", tenant_authorization, SHORT) + b"\x16\x03\x01\r\n\r\n")
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
    writer.close()
    assert b"HTTP/1.1" not in rest
    await until(lambda: len(server.gateway.runs) == server.gateway.meter.live_requests == 0)
    (event,) = (await read_books(database, tenant.organization_id)).events
    assert event.status == "cancelled"
