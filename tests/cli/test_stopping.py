"""SIGTERM lets answers finish and tells new ones 503; `/readyz` tells of it, and of Postgres being away."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.processes import Postgres
from tests.cli.commands import Farebox, shell
from tests.cli.live import make_customer
from tests.cli.processes import running
from tests.conftest import migrate
from tests.engine.checkpoints import build_checkpoint
from tests.waiting import WAIT_SECONDS, eventually

LONG = 1_200
READYZ_SECONDS = 5.0


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Of these tests' own, to be stopped and hung."""
    postgres = Postgres(tmp_path_factory.mktemp("own") / "postgres")
    try:
        migrate(postgres.url)
        yield postgres
    finally:
        postgres.shut_down()


@pytest.fixture(scope="module")
def operator(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Farebox:
    directory = tmp_path_factory.mktemp("stopping")
    operator = shell(directory, postgres.url, default_tokens_per_minute="1000000000")
    folder = build_checkpoint(directory / "tiny", max_position_embeddings=4096)
    operator.json("model", "add", folder, "--name", "tiny")
    return operator


async def test_sigterm_lets_a_stream_finish_and_refuses_new_ones(operator: Farebox) -> None:
    async with running(operator, "serve", "--worker", until="API") as server:
        customer = make_customer(operator, server.url)
        async with customer.streaming("tiny", max_tokens=LONG) as stream:
            server.process.terminate()

            async def drains() -> bool:
                status, readiness = await customer.readiness()
                return status == 503 and bool(readiness["draining"])

            await eventually(drains)
            async with httpx.AsyncClient(base_url=server.url, headers=customer.http.headers) as newcomer:
                body = {"model": "tiny", "prompt": "x", "max_tokens": 1}
                refused = await newcomer.post("/v1/completions", json=body)
                assert (await newcomer.get("/livez")).status_code == 200
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "5"
            assert "shutting down" in refused.json()["error"]["message"]
            assert not stream.done
        assert (stream.done, stream.finish_reason, stream.error) == (True, "length", None)
        assert await server.ended() == 0
        await customer.http.aclose()
    (row,) = [row for row in operator.json("usage", "show") if row["model"] == "tiny"]
    assert (row["requests"], row["output_tokens"]) == (1, LONG), "settled before the process ended"


async def test_without_requests_it_stops_at_once(operator: Farebox) -> None:
    async with running(operator, "serve", until="API") as server:
        assert await server.stop() == 0


@pytest.mark.parametrize("how", ["stopped", "hung"])
async def test_readyz_while_postgres_is_away_and_when_it_is_back(
    how: str, operator: Farebox, postgres: Postgres, tmp_path: Path
) -> None:
    async with (
        running(operator, "serve", until="API") as server,
        httpx.AsyncClient(base_url=server.url, timeout=WAIT_SECONDS) as probe,
    ):
        ready = await probe.get("/readyz")
        assert (ready.status_code, ready.json()["database"]) == (200, "ok")
        postgres.shut_down() if how == "stopped" else postgres.hang()
        try:
            for _ in range(2):  # with a connection that has gone bad, and with none
                began = time.monotonic()
                away = await probe.get("/readyz")
                assert time.monotonic() - began < READYZ_SECONDS
                assert (away.status_code, away.json()["database"]) == (503, "unreachable")
            assert (await probe.get("/livez")).status_code == 200
        finally:
            postgres.start() if how == "stopped" else postgres.resume()

        async def is_ready() -> bool:
            return (await probe.get("/readyz")).status_code == 200

        await eventually(is_ready)
