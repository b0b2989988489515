"""Clients that leave or stop reading: the engine's slot is freed, what was delivered is billed."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterator

import httpx
import pytest

from farebox.core.database import Database
from farebox.metering.models import UsageEvent
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant
from tests.waiting import WAIT_SECONDS, until

# A quarter of a second where nothing else runs; the answers would go on for 1,900.
FREED_STEPS = 250
LONG = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Tell me all about the ferry."}],
    "max_tokens": 1900,
    "logit_bias": {"0": -100},
}


def running(server: RunningServer) -> int:
    served = server.gateway.catalog.find("tiny")
    assert served is not None
    stats = served.generator.stats()
    return stats.running + stats.waiting


def steps(server: RunningServer) -> int:
    served = server.gateway.catalog.find("tiny")
    assert served is not None
    return served.generator.stats().steps


async def settled_event(read: Callable[[], Awaitable[list[UsageEvent]]]) -> list[UsageEvent]:
    async with asyncio.timeout(WAIT_SECONDS):
        while not (events := await read()):  # noqa: ASYNC110  another process's rows
            await asyncio.sleep(0.02)
    return events


async def test_leaving_mid_stream_frees_the_slot_and_bills_what_was_delivered(
    http: httpx.AsyncClient, server: RunningServer, database: Database, tenant: Tenant
) -> None:
    received = 0
    async with http.stream("POST", "/v1/chat/completions", json=LONG | {"stream": True}) as answer:
        async for line in answer.aiter_lines():
            received += '"content"' in line
            if received == 10:
                before = steps(server)
                break
    await until(lambda: running(server) == 0)
    assert steps(server) - before < FREED_STEPS

    async def events() -> list[UsageEvent]:
        return (await read_books(database, tenant.organization_id)).events

    [event] = await settled_event(events)
    assert event.status == "cancelled"
    assert event.input_tokens > 0
    assert 1 <= event.output_tokens < 1900
    assert not (await read_books(database, tenant.organization_id)).holds


async def test_leaving_before_a_whole_answer_costs_nothing(
    http: httpx.AsyncClient, server: RunningServer, database: Database, tenant: Tenant
) -> None:
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=LONG))
    await until(lambda: running(server) == 1)
    before = steps(server)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: running(server) == 0)
    assert steps(server) - before < FREED_STEPS
    await until(lambda: len(server.gateway.runs) == 0)
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


@pytest.fixture
def impatient(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that cuts readers after half a second."""
    settings = make_settings(tmp_path_factory.mktemp("stalled"), stalled_reader_seconds=0.5)
    thread = ServerThread(settings, database_url)
    yield thread.start()
    thread.stop()


async def test_a_stalled_reader_is_cut(
    impatient: RunningServer, tenant: Tenant, tenant_authorization: bytes, database: Database
) -> None:
    # With log-probabilities each token fills a kilobyte, which soon fills the socket's buffers.
    asked = LONG | {"stream": True, "logprobs": True, "top_logprobs": 20}
    body = json.dumps(asked).encode()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect(("127.0.0.1", impatient.port))
        reader.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: farebox\r\nContent-Type: application/json\r\n"
            + tenant_authorization
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )

        async def events() -> list[UsageEvent]:
            return (await read_books(database, tenant.organization_id)).events

        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := await events()):  # noqa: ASYNC110  another process's rows
                await asyncio.sleep(0.05)
    assert [event.status for event in found] == ["cancelled"]
    assert 0 < found[0].output_tokens < 1900
    assert running(impatient) == 0
