"""`farebox up` on its embedded Postgres, and the commands of a second terminal beside it."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from farebox.cli.data_directory import postgres_directory
from farebox.core.postgres.embedded import EmbeddedPostgres
from farebox.core.settings import Settings
from tests.cli.commands import Farebox, shell
from tests.cli.live import Customer
from tests.cli.processes import running
from tests.engine.checkpoints import build_checkpoint
from tests.waiting import eventually


def postgres_of(operator: Farebox) -> Path:
    return postgres_directory(Settings(data=operator.settings["data"]))


def postgres_runs(operator: Farebox) -> bool:
    return EmbeddedPostgres.running_url(postgres_of(operator)) is not None


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Farebox]:
    operator = shell(tmp_path, demo_model="false")
    yield operator
    if postgres_runs(operator):
        EmbeddedPostgres(postgres_of(operator)).stop()


async def test_a_newcomer_s_first_half_hour(operator: Farebox, tmp_path: Path) -> None:
    """First start, one's own model sold from a second terminal, kill -9, start again, stop."""
    credentials = tmp_path / "data" / "dev-credentials.json"
    async with running(operator, "up", until="Ctrl-C stops it.") as up:
        assert not any("Try it" in line for line in up.printed), "there is no model to try"
        customer = Customer(up.url, json.loads(credentials.read_bytes())["api_key"])
        folder = build_checkpoint(tmp_path / "mine")
        operator.json("model", "add", folder, "--name", "mine")

        async def is_served() -> bool:
            return "mine" in await customer.models()

        await eventually(is_served)
        assert (await customer.complete("mine")).status_code == 200
        assert [row["model"] for row in operator.json("usage", "show")] == ["mine"]
        findings = {finding["check"]: finding["state"] for finding in operator.json("doctor")}
        assert findings["database"] == findings["models"] == findings["signing keys"] == "ok"
        await up.kill()
        await customer.http.aclose()
    assert postgres_runs(operator), "it outlives a killed process"
    async with running(operator, "up", until="Ctrl-C stops it.") as up:
        document = json.loads(credentials.read_bytes())
        assert any('"model": "mine"' in line for line in up.printed)
        async with httpx.AsyncClient(base_url=document["base_url"]) as client:
            headers = {"authorization": f"Bearer {document['api_key']}"}
            body = {"model": "mine", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
            answer = await client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200
    assert up.process.returncode == 0
    assert not postgres_runs(operator), "an orderly stop takes Postgres along"
    assert [row["name"] for row in operator.json("org", "list")] == ["Demo"], "a command starts it for itself"
    assert not postgres_runs(operator)
