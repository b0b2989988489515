"""A database of these tests' own, whose books and clock no other test moves."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from tests.billing.clock import Clock
from tests.conftest import migrate


@pytest.fixture(scope="session")
async def empty_url(postgres_url: str) -> str:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE billing")
    await connection.close()
    return make_url(postgres_url).set(database="billing").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def database_url(empty_url: str) -> str:
    migrate(empty_url)
    return empty_url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(database_url: str, clock: Clock) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=2, clock=clock)
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
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None, sweep_grace=timedelta())
    yield meter
    await meter.close()
