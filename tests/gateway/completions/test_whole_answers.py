"""A whole answer goes out past the server's own `send`: what that does besides must still happen."""

import asyncio
import json

import pytest

from tests.gateway.completions.test_undelivered import posting
from tests.gateway.servers import RunningServer
from tests.waiting import WAIT_SECONDS

ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


async def read_answer(reader: asyncio.StreamReader) -> tuple[dict[str, str], bytes]:
    """One response with a length: its headers, names in lower case, and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    status, *lines = head.rstrip().split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    pairs = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs), "a header came twice"
    return headers, await reader.readexactly(int(headers["content-length"]))


async def test_a_connection_serves_one_after_the_other(
    server: RunningServer, tenant_authorization: bytes
) -> None:
    request = posting("/v1/chat/completions", tenant_authorization, ASKED)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    ids = set()
    async with asyncio.timeout(WAIT_SECONDS):
        for sent in (request, request + request, b""):  # the second time two at once
            writer.write(sent)
            headers, body = await read_answer(reader)
            assert json.loads(body)["object"] == "chat.completion"
            assert headers["content-type"] == "application/json"
            assert {"date", "openai-processing-ms", "x-ratelimit-remaining-tokens"} <= headers.keys()
            ids.add(headers["x-request-id"])
    assert len(ids) == 3
    writer.close()


@pytest.mark.parametrize(
    ("version", "header"), [(b"HTTP/1.1", b"Connection: close\r\n"), (b"HTTP/1.0", b"")], ids=["asked", "1.0"]
)
async def test_a_connection_that_is_not_kept_ends_with_the_answer(
    server: RunningServer, tenant_authorization: bytes, version: bytes, header: bytes
) -> None:
    request = posting("/v1/chat/completions", header + tenant_authorization, ASKED)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request.replace(b"HTTP/1.1", version, 1))
    async with asyncio.timeout(WAIT_SECONDS):
        headers, _ = await read_answer(reader)
        assert headers["connection"] == "close"
        assert await reader.read() == b""
    writer.close()


async def test_who_waits_to_be_told_to_go_on_is_told(
    server: RunningServer, tenant_authorization: bytes
) -> None:
    request = posting("/v1/chat/completions", b"Expect: 100-continue\r\n" + tenant_authorization, ASKED)
    head, body = request.split(b"\r\n\r\n", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(WAIT_SECONDS):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        _, answer = await read_answer(reader)
    assert json.loads(answer)["usage"]["completion_tokens"] >= 1
    writer.close()
