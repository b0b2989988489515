"""`priority` on an engine with one place: who asks for it gives way, and overtakes nobody."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from farebox.billing.models import ModelOffer
from farebox.core.database import Database
from farebox.gateway.models.generation import EngineStats
from farebox.gateway.models.local import LocalBackend
from farebox.keys.tokens import Keyring
from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.metering.factories import read_books
from tests.tenants.factories import Tenant, make_tenant
from tests.waiting import WAIT_SECONDS, until

LENGTH = 400


def one_at_a_time(offer: ModelOffer) -> LocalBackend:
    # Without guesses, so that the first answer is still under way when the others come.
    config = EngineConfig(device="cpu", threads=1, max_running=1, speculative_tokens=0)
    return LocalBackend(Engine.load(offer.path, config))


@pytest.fixture(scope="module")
def narrow(
    database_url: str, offered: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server whose models answer one request at a time."""
    thread = ServerThread(make_settings(tmp_path_factory.mktemp("narrow")), database_url, one_at_a_time)
    yield thread.start()
    thread.stop()


@pytest.fixture
async def patient(narrow: RunningServer, tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(narrow, tenant) as client:
        yield client


@pytest.fixture
async def other(
    narrow: RunningServer, database: Database, keyring: Keyring
) -> AsyncIterator[httpx.AsyncClient]:
    """Another tenant's client."""
    async with asking(narrow, await make_tenant(database, keyring, balance=Decimal(100))) as client:
        yield client


def asking(server: RunningServer, tenant: Tenant) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {tenant.api_key}"}
    return httpx.AsyncClient(base_url=f"{server.url}/v1", headers=headers, timeout=WAIT_SECONDS)


def asked(max_tokens: int, **fields: Any) -> dict[str, Any]:
    body = {"model": "tiny", "prompt": "The ferry", "max_tokens": max_tokens, "temperature": 0}
    return body | {"ignore_eos": True} | fields


def stats(server: RunningServer) -> EngineStats:
    served = server.gateway.catalog.find("tiny")
    assert served is not None
    return served.generator.stats()


async def test_work_that_can_wait_gives_its_place_up_and_is_whole_in_the_end(
    narrow: RunningServer,
    patient: httpx.AsyncClient,
    other: httpx.AsyncClient,
    database: Database,
    tenant: Tenant,
) -> None:
    expected = (await other.post("/completions", json=asked(LENGTH))).json()["choices"][0]["text"]
    waiting = asyncio.create_task(patient.post("/completions", json=asked(LENGTH, priority=1)))
    await until(lambda: stats(narrow).running == 1)
    answer = await other.post("/completions", json=asked(20))
    assert answer.json()["usage"]["completion_tokens"] == 20
    assert not waiting.done()
    assert stats(narrow).preemptions == 1
    late = (await waiting).json()
    assert late["choices"][0]["text"] == expected
    assert late["usage"]["completion_tokens"] == LENGTH
    [event] = (await read_books(database, tenant.organization_id)).events
    assert event.output_tokens == LENGTH
    assert event.input_tokens + event.cached_input_tokens == late["usage"]["prompt_tokens"]


async def test_it_overtakes_nobody_not_even_its_own_tenant(
    narrow: RunningServer, patient: httpx.AsyncClient, other: httpx.AsyncClient
) -> None:
    done: list[str] = []

    async def ask(name: str, client: httpx.AsyncClient, body: dict[str, Any]) -> None:
        answer = await client.post("/completions", json=body)
        assert answer.status_code == 200
        done.append(name)

    requests = [
        ("first", other, asked(LENGTH)),
        ("patient", patient, asked(40, priority=1)),
        ("own", patient, asked(40, priority=0)),
        ("others", other, asked(40)),
    ]
    async with asyncio.TaskGroup() as group:
        for name, client, body in requests:
            before = in_engine(narrow)
            group.create_task(ask(name, client, body))
            await until(lambda: in_engine(narrow) > before)  # noqa: B023  called before the next
    assert (done[0], done[-1]) == ("first", "patient")


def in_engine(server: RunningServer) -> int:
    now = stats(server)
    return now.running + now.waiting
