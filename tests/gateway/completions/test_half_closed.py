"""Clients that end their half of the connection and read on: none reads what it is not billed for."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from farebox.core.database import Database
from tests.gateway.completions.test_departures import FREED_STEPS, LONG, running, steps
from tests.gateway.completions.test_undelivered import SHORT, posting
from tests.gateway.servers import RunningServer
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant
from tests.waiting import WAIT_SECONDS, until

# Each token fills more than a kilobyte: five megabytes, more than sockets' buffers hold.
FAT = LONG | {"stream": True, "logprobs": True, "top_logprobs": 20, "n": 2}


@contextmanager
def connected(server: RunningServer) -> Iterator[socket.socket]:
    """A client with next to no room of its own for what it was sent."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.settimeout(WAIT_SECONDS)
        yield client


def read_to_the_end(client: socket.socket) -> bytes:
    received = bytearray()
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return bytes(received)


def tokens_in(stream: bytes) -> int:
    """How many tokens the whole events of a stream with log-probabilities stand for."""
    events = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: {") and line.endswith(b"}")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return sum(len(choice["logprobs"]["content"]) for choice in choices if choice.get("logprobs"))


async def settled(server: RunningServer) -> None:
    await until(lambda: len(server.gateway.runs) == server.gateway.meter.live_requests == 0)


async def test_who_half_closes_a_stream_reads_no_more_than_is_billed(
    server: RunningServer, database: Database, tenant: Tenant, tenant_authorization: bytes
) -> None:
    with connected(server) as client:
        client.sendall(posting("/v1/chat/completions", tenant_authorization, FAT))
        # All is computed, and what the sockets do not take waits for this slow reader.
        await until(lambda: running(server) == 1)
        await until(lambda: running(server) == 0)
        client.shutdown(socket.SHUT_WR)
        received = await asyncio.to_thread(read_to_the_end, client)
    await settled(server)
    (event,) = (await read_books(database, tenant.organization_id)).events
    assert event.status == "cancelled"
    assert b"[DONE]" not in received
    # The event that had begun to leave is neither billed nor there.
    assert tokens_in(received) == event.output_tokens > 0


async def test_who_half_closes_before_a_whole_answer_has_left(
    server: RunningServer, database: Database, tenant: Tenant, tenant_authorization: bytes
) -> None:
    with connected(server) as client:
        client.sendall(posting("/v1/chat/completions", tenant_authorization, LONG))
        await until(lambda: running(server) == 1)
        before = steps(server)
        client.shutdown(socket.SHUT_WR)
        received = await asyncio.to_thread(read_to_the_end, client)
    await settled(server)
    assert received == b""
    assert steps(server) - before < FREED_STEPS
    books = await read_books(database, tenant.organization_id)
    assert not books.events
    assert not books.holds


@pytest.mark.parametrize("stream", [False, True])
async def test_who_half_closes_after_an_answer_gets_all_of_it(
    stream: bool, server: RunningServer, database: Database, tenant: Tenant, tenant_authorization: bytes
) -> None:
    asked = SHORT | {"stream": stream, "logprobs": True, "top_logprobs": 20}
    with connected(server) as client:
        client.sendall(posting("/v1/chat/completions", tenant_authorization, asked))
        await until(lambda: running(server) == 1)
        await settled(server)
        client.shutdown(socket.SHUT_WR)
        received = await asyncio.to_thread(read_to_the_end, client)
    assert received.rstrip().endswith(b"0" if stream else b"}")
    (event,) = (await read_books(database, tenant.organization_id)).events
    assert (event.status, event.output_tokens) == ("completed", 40)
