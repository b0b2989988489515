"""A database of these tests' own: servers of others would try to load the models that they offer."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from tests.conftest import migrate
from tests.metering.cut_wire import CutWire
from tests.metering.mortal import Mortal
from tests.metering.outages import Outage


@pytest.fixture(scope="session")
async def empty_url(postgres_url: str) -> str:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE metering")
    await connection.close()
    return make_url(postgres_url).set(database="metering").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def database_url(empty_url: str) -> str:
    migrate(empty_url)
    return empty_url


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(
        default_requests_per_minute=1_000_000,
        default_tokens_per_minute=1_000_000_000,
        default_concurrent_requests=1_000,
    )


@pytest.fixture
async def meter(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Meter]:
    meter = await Meter.open(settings, database_url, tmp_path, sweep_grace=timedelta())
    yield meter
    await meter.close()


@pytest.fixture
def outage(tmp_path: Path) -> Outage:
    outage = Outage(tmp_path / "pg")
    migrate(outage.server.url)
    return outage


@pytest.fixture
async def mortal(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Mortal]:
    async with CutWire(database_url) as wire:
        meter = await Meter.open(settings, wire.url, tmp_path / "mortal", turn_seconds=None)
        yield Mortal(meter, wire, tmp_path / "mortal", settings, database_url)
        await meter.close()
