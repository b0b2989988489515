"""A database of these tests' own, whose books all agree until a test spoils them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from farebox.metering.seals.sealing import seal_hours
from tests.conftest import migrate


@pytest.fixture(scope="module")
async def empty_url(postgres_url: str) -> AsyncIterator[str]:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE reconciled")
    yield make_url(postgres_url).set(database="reconciled").render_as_string(hide_password=False)
    await connection.execute("DROP DATABASE reconciled WITH (FORCE)")
    await connection.close()


@pytest.fixture(scope="module")
def database_url(empty_url: str) -> str:
    migrate(empty_url)
    return empty_url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def meter(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Meter]:
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None, sweep_grace=timedelta())
    yield meter
    await meter.close()


@pytest.fixture
async def close_the_books(database_url: str) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Seal all that is booked by now: the clock of the chain is ahead, and begins anew each time."""
    later = Database(database_url, pool_size=2, clock=lambda: utc_now() + timedelta(hours=2))
    owner = await asyncpg.connect(database_url)

    async def close() -> int:
        await owner.execute("TRUNCATE usage_seal, usage_organization_seal, seal_horizon")
        return await seal_hours(later)

    yield close
    await owner.close()
    await later.close()
