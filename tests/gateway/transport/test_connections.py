"""Raw sockets: smuggling, oversized heads, slow senders, and what stays of a connection after them."""

import asyncio
import json
from collections.abc import Iterator
from functools import partial

import pytest

from farebox.gateway.transport.http_protocol import MAX_BURST, MAX_PARAMETERS, BoundedHttpProtocol
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.gateway.watchdog import unstalled
from tests.waiting import WAIT_SECONDS

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: farebox\r\nContent-Type: application/json\r\n"
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: farebox\r\n\r\n"


async def exchange(server: RunningServer, data: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        async with asyncio.timeout(WAIT_SECONDS):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: -5\r\n",
        b"X-Folded: a\r\n b\r\n",
        b"X-Nul: a\x00b\r\n",
        b"Host: other\r\n",
    ],
)
async def test_ambiguous_request_is_refused_and_nothing_after_it_is_answered(
    lines: bytes, server: RunningServer
) -> None:
    async with unstalled(server):
        answer = await exchange(server, HEAD + lines + b"\r\n0\r\n\r\n" + SMUGGLED)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head
    assert answer.count(b"HTTP/1.1") == 1
    error = json.loads(body)["error"]
    assert error["code"] == "malformed_request"
    assert b"x-request-id: " + error["request_id"].encode() in head


@pytest.mark.parametrize(
    "request_line_and_headers",
    [
        b"POST /livez HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_no_http_that_can_be_understood(request_line_and_headers: bytes, server: RunningServer) -> None:
    assert (await exchange(server, request_line_and_headers)).startswith(b"HTTP/1.1 400 ")


HOSTS = [
    (b"farebox", True),
    (b"farebox:8080", True),
    (b"farebox_gateway.example:", True),
    (b"", True),
    (b"192.0.2.1:65535", True),
    (b"[::1]", True),
    (b"[2001:db8::192.0.2.1]:443", True),
    (b"a:b", False),
    (b"a:99999999", False),
    (b"a:65536", False),
    (b"a:-1", False),
    (b"a:1:2", False),
    (b"::1", False),
    (b"[::1", False),
    (b"[::1]:x", False),
    (b"[:::]", False),
    (b"[192.0.2.1]", False),
    (b"a b", False),
    (b"a/b", False),
    (b"a?b", False),
    (b"a@b", False),
    (b"\xe2\x84\x80", False),
]


@pytest.mark.parametrize(("host", "valid"), HOSTS)
async def test_a_host_that_no_address_can_have_is_refused(
    host: bytes, valid: bool, server: RunningServer
) -> None:
    """By a page, which makes addresses."""
    head = b"GET /overview?span=30d HTTP/1.1\r\nConnection: close\r\nHost: " + host
    answer = await exchange(server, head + b"\r\n\r\n")
    if valid:
        assert answer.startswith(b"HTTP/1.1 303 ")
        assert b"location: /sign-in?next=/overview%3Fspan%3D30d\r\n" in answer
    else:
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"malformed_request"' in answer


@pytest.mark.parametrize(("more", "status"), [(MAX_PARAMETERS - 1, b"200"), (MAX_PARAMETERS, b"400")])
async def test_an_address_has_a_bounded_number_of_parameters(
    more: int, status: bytes, server: RunningServer
) -> None:
    head = b"GET /livez?a" + b"&a" * more + b" HTTP/1.1\r\nHost: farebox\r\nConnection: close\r\n\r\n"
    answer = await exchange(server, head)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert (b'"too_many_parameters"' in answer) is (status == b"400")


@pytest.mark.parametrize(
    "data",
    [
        HEAD + b"X-Large: " + b"a" * 33_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 100) for i in range(400)) + b"\r\n",
        HEAD + b"X-Endless: " + b"a" * 3_000_000,
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: farebox\r\n\r\n",
    ],
    ids=["one header", "many headers", "a header without end", "the path"],
)
async def test_head_over_32_kb(data: bytes, server: RunningServer) -> None:
    async with unstalled(server):
        answer = await exchange(server, data)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"headers_too_large"' in answer


async def test_head_just_under_the_limit_passes(server: RunningServer) -> None:
    head = b"GET /livez HTTP/1.1\r\nHost: farebox\r\nConnection: close\r\nX-Large: " + b"a" * 32_000
    assert (await exchange(server, head + b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_trailers_are_no_headers(server: RunningServer, tenant_authorization: bytes) -> None:
    trailer = b"0\r\n" + tenant_authorization + b"\r\n"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n" + trailer
    closing = b"GET /livez HTTP/1.1\r\nHost: farebox\r\nConnection: close\r\n\r\n"
    answer = await exchange(server, chunked + closing)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"401" in answer.splitlines()[0]


async def test_pipelined_requests_are_answered_in_order(server: RunningServer) -> None:
    last = b"GET /nothing HTTP/1.1\r\nHost: farebox\r\nConnection: close\r\n\r\n"
    answer = await exchange(server, SMUGGLED * 3 + last)
    assert [piece[:3] for piece in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"200", b"404"]


async def test_a_flood_of_pipelined_requests_ends_its_connection(server: RunningServer) -> None:
    """One read may bring ten thousand of them."""
    async with asyncio.timeout(WAIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 2_000)
        try:
            answers = await reader.read()
        except ConnectionResetError:
            answers = b""
    writer.close()
    assert answers.count(b"HTTP/1.1 200") <= MAX_BURST + 2


@pytest.fixture
def impatient(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that waits a fifth of a second for a request to arrive."""
    protocol = partial(BoundedHttpProtocol, stalled_reader_seconds=30.0, request_seconds=0.2)
    settings = make_settings(tmp_path_factory.mktemp("impatient"))
    thread = ServerThread(settings, database_url, http=protocol)
    yield thread.start()
    thread.stop()


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"", b""),
        (b"POST /v1/chat", b"HTTP/1.1 408 "),
        (HEAD + b"X-Slow: ", b"HTTP/1.1 408 "),
    ],
    ids=["silence", "half a line", "half a head"],
)
async def test_slow_requests_are_dropped(data: bytes, answer: bytes, impatient: RunningServer) -> None:
    assert (await exchange(impatient, data)).startswith(answer)


async def test_slow_body_is_dropped(impatient: RunningServer, tenant_authorization: bytes) -> None:
    data = HEAD + tenant_authorization + b"Content-Length: 100\r\n\r\n{"
    assert (await exchange(impatient, data)).startswith(b"HTTP/1.1 408 ")
