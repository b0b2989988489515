"""HTTP as monitors, old clients and browsers speak it."""

import asyncio
import gzip
import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.tenants.factories import Tenant

CHAT = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "seed": 1}
ORIGIN = "https://app.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.mark.parametrize(
    "path", ["/livez", "/health", "/readyz", "/v1/models", "/v1/models/tiny", "/sign-in"]
)
async def test_head_is_get_without_a_body(path: str, http: httpx.AsyncClient) -> None:
    got, head = await http.get(path), await http.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    assert head.headers["x-request-id"]


async def test_head_is_no_way_to_what_takes_post_only(http: httpx.AsyncClient) -> None:
    assert (await http.head(CHAT)).status_code == 405


async def exchanged(server: RunningServer, request: bytes) -> bytes:
    where = urlsplit(server.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize("keep_alive", [b"", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_old_client_gets_bare_bytes_and_the_end(
    server: RunningServer, tenant_authorization: bytes, stream: bool, keep_alive: bytes
) -> None:
    body = json.dumps(BODY | {"stream": stream}).encode()
    head = b"POST /v1/chat/completions HTTP/1.0\r\nHost: x\r\nContent-Type: application/json\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    answer = await exchanged(server, head + keep_alive + tenant_authorization + length + body)
    sent, _, content = answer.partition(b"\r\n\r\n")
    assert b" 200 " in sent.splitlines()[0]
    assert b"transfer-encoding" not in sent.lower()
    if stream:
        assert b"connection: close" in sent.lower()
        events = content.split(b"\n\n")
        assert all(event.startswith(b"data: ") for event in events[:-1])
        assert events[-2:] == [b"data: [DONE]", b""]
    else:
        assert json.loads(content)["choices"]


async def test_a_compressed_body_is_a_415_that_says_so(http: httpx.AsyncClient) -> None:
    content = gzip.compress(json.dumps(BODY).encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = await http.post(CHAT, content=content, headers=headers)
    assert answer.status_code == 415
    assert "compressed" in answer.json()["error"]["message"]


async def test_a_forgotten_prefix_is_named(http: httpx.AsyncClient) -> None:
    for answer in (await http.post("/chat/completions", json=BODY), await http.get("/models")):
        assert answer.status_code == 404
        assert "/v1" in answer.json()["error"]["message"]
    assert "/v1" not in (await http.get("/nowhere")).json()["error"]["message"]


async def test_other_origins_are_not_let_in_by_default(http: httpx.AsyncClient) -> None:
    answer = await http.options(CHAT, headers=PREFLIGHT)
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.fixture(scope="module")
def open_server(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    settings = make_settings(tmp_path_factory.mktemp("farebox"), cors_origins=f"https://x.example, {ORIGIN}")
    thread = ServerThread(settings, database_url)
    yield thread.start()
    thread.stop()


async def test_origins_of_the_setting_may_call(open_server: RunningServer, tenant: Tenant) -> None:
    headers = {"authorization": f"Bearer {tenant.api_key}", "origin": ORIGIN}
    async with httpx.AsyncClient(base_url=open_server.url, timeout=60) as client:
        preflight = await client.options(CHAT, headers=PREFLIGHT)
        assert preflight.status_code == 204
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        assert "POST" in preflight.headers["access-control-allow-methods"]
        answers = [
            preflight,
            await client.post(CHAT, json=BODY, headers=headers),
            await client.post(CHAT, json=BODY | {"stream": True}, headers=headers),
            await client.post(CHAT, json=BODY, headers={"origin": ORIGIN}),
            await client.get("/v1/models", headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [204, 200, 200, 401, 200]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == ORIGIN
            assert "Origin" in answer.headers["vary"]
        stranger = await client.options(CHAT, headers=PREFLIGHT | {"origin": "https://other.example"})
        assert "access-control-allow-origin" not in stranger.headers
        page = await client.get("/sign-in", headers={"origin": ORIGIN})
        assert "access-control-allow-origin" not in page.headers
