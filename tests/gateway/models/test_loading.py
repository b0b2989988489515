"""A server that starts: what is loaded serves, while the rest is still to come."""

import threading
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from farebox.billing.models import ModelOffer
from farebox.billing.offers import remove_model
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.gateway.models.local import LocalBackend
from farebox.keys.tokens import Keyring
from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from farebox_engine.errors import LoadError
from tests.gateway.conftest import offer
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.tenants.factories import Tenant, make_tenant
from tests.waiting import WAIT_SECONDS, until


class SlowLoading:
    """Loads the tiny model at once, and another when it is let; fails for all else that is on offer."""

    def __init__(self, slow: str) -> None:
        self.slow = slow
        self.begun = threading.Event()
        self.let = threading.Event()

    def __call__(self, offer: ModelOffer) -> LocalBackend:
        if offer.id not in ("tiny", self.slow):
            raise LoadError("not of these tests")
        if offer.id == self.slow:
            self.begun.set()
            self.let.wait(WAIT_SECONDS)
        return LocalBackend(Engine.load(offer.path, EngineConfig(device="cpu", threads=1)))


@pytest.fixture
async def loading(database: Database, checkpoint: Path) -> AsyncIterator[SlowLoading]:
    """Models are loaded by name: this one is the last."""
    loading = SlowLoading(f"zz-{new_id().hex}")
    await offer(database, loading.slow, checkpoint)
    yield loading
    async with database.meter_transaction() as session:
        await remove_model(session, loading.slow)


@pytest.fixture
def starting(
    loading: SlowLoading, database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("starting")), database_url, loading)
    yield thread.start(with_models=False)
    loading.let.set()
    thread.stop()


async def ask(http: httpx.AsyncClient, model: str) -> httpx.Response:
    body: dict[str, Any] = {"model": model, "prompt": "Hello", "max_tokens": 1}
    return await http.post("/v1/completions", json=body)


async def test_what_is_loaded_serves_while_the_rest_is_still_to_come(
    starting: RunningServer, loading: SlowLoading, database: Database, keyring: Keyring, tenant: Tenant
) -> None:
    await until(loading.begun.is_set)
    stranger = await make_tenant(database, keyring, balance=Decimal(1), models=["tiny"])
    async with httpx.AsyncClient(base_url=starting.url, timeout=WAIT_SECONDS) as http:
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["loading_models"]) == (200, [loading.slow])
        http.headers["authorization"] = f"Bearer {tenant.api_key}"
        assert (await ask(http, "tiny")).status_code == 200
        told = await ask(http, loading.slow)
        assert (told.status_code, told.json()["error"]["code"]) == (503, "service_unavailable")
        assert int(told.headers["retry-after"]) > 0
        assert (await http.get(f"/v1/models/{loading.slow}")).status_code == 503
        http.headers["authorization"] = f"Bearer {stranger.api_key}"
        assert (await ask(http, loading.slow)).status_code == 404, "who may not call it learns nothing"
        http.headers["authorization"] = f"Bearer {tenant.api_key}"
        loading.let.set()
        await starting.call(starting.gateway.catalog.loaded.wait)
        assert (await ask(http, loading.slow)).status_code == 200
        assert (await http.get("/readyz")).json()["loading_models"] == []


async def test_before_the_first_model_it_is_not_ready(
    loading: SlowLoading,
    database: Database,
    database_url: str,
    offered: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    def load(offer: ModelOffer) -> LocalBackend:
        loading.begun.set()
        loading.let.wait(WAIT_SECONDS)
        return loading(offer)

    thread = ServerThread(make_settings(tmp_path_factory.mktemp("unready")), database_url, load)
    starting = thread.start(with_models=False)
    async with httpx.AsyncClient(base_url=starting.url, timeout=WAIT_SECONDS) as http:
        await until(loading.begun.is_set)
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["models"]) == (503, [])
        assert {"tiny", loading.slow} <= {*ready.json()["loading_models"]}
        loading.let.set()
        await starting.call(starting.gateway.catalog.loaded.wait)
        assert (await http.get("/readyz")).status_code == 200
    thread.stop()
