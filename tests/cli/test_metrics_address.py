"""`FAREBOX_METRICS_ADDRESS`: metrics on a port of their own, for as long as the server runs."""

import re
import socket

import httpx
import pytest

from tests.cli.commands import Farebox
from tests.cli.processes import Running, running
from tests.waiting import WAIT_SECONDS, eventually


async def metrics_url(server: Running) -> str:
    found = re.search(r"http://\S+/metrics", await server.said("Metrics"))
    assert found is not None
    return found[0]


async def test_metrics_are_there_and_nowhere_else(shop: Farebox) -> None:
    async with (
        running(shop.set(metrics_address="127.0.0.1:0"), "serve", until="API") as server,
        httpx.AsyncClient(timeout=WAIT_SECONDS) as http,
    ):
        apart = await metrics_url(server)
        assert not apart.startswith(server.url)
        # The second tells of the first, which the public port answered.
        assert (await http.get(f"{server.url}/livez")).status_code == 200
        answer = await http.get(apart)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert 'farebox_http_requests_total{method="GET",route="/livez",status="200"} 1.0' in answer.text
        assert "farebox_live_requests 0.0" in answer.text
        for elsewhere in (f"{server.url}/metrics", apart.replace("/metrics", "/livez")):
            refused = await http.get(elsewhere)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")


async def test_they_end_with_the_server(shop: Farebox) -> None:
    async with running(shop.set(metrics_address="127.0.0.1:0"), "serve", "--worker", until="API") as server:
        apart = await metrics_url(server)
        async with httpx.AsyncClient(timeout=WAIT_SECONDS) as http:
            assert (await http.get(apart)).status_code == 200
            # A scraper that keeps its connection does not keep the server.
            assert await server.stop() == 0
    host, _, port = apart.removeprefix("http://").removesuffix("/metrics").rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


async def test_a_taken_address_is_told_before_anything_starts(shop: Farebox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        refusal = shop.set(metrics_address=address, port="0").run("serve").refusal
    assert f"cannot listen on {address.replace(':', ' port ')}" in refusal
    assert "FAREBOX_METRICS_ADDRESS" in refusal


async def test_without_an_address_they_are_beside_the_api(shop: Farebox) -> None:
    async with (
        running(shop, "serve", until="API") as server,
        httpx.AsyncClient(timeout=WAIT_SECONDS) as http,
    ):

        async def are_there() -> bool:
            return (await http.get(f"{server.url}/metrics")).status_code == 200

        await eventually(are_there)
    assert not any("Metrics" in line for line in server.printed)
