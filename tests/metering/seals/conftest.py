"""A database of these tests' own, empty before each, with a clock that they move: a chain begins anew."""

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.core.database import Database
from tests.billing.clock import Clock
from tests.conftest import migrate
from tests.metering.seals.sealed_books import NOON, Customer, open_customer

EMPTY = """
TRUNCATE usage_seal, usage_organization_seal, seal_horizon, usage_event, usage_amendment, usage_hour,
    usage_minute, ledger_transfer, hold
"""


@pytest.fixture(scope="session")
async def empty_seals_url(postgres_url: str) -> str:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE seals")
    await connection.close()
    return make_url(postgres_url).set(database="seals").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def seals_url(empty_seals_url: str) -> str:
    migrate(empty_seals_url)
    return empty_seals_url


@pytest.fixture
async def database_url(seals_url: str) -> str:
    owner = await asyncpg.connect(seals_url)
    await owner.execute(EMPTY)
    await owner.execute("DELETE FROM organization")
    await owner.close()
    return seals_url


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = NOON
    return clock


@pytest.fixture
async def database(database_url: str, clock: Clock) -> AsyncIterator[Database]:
    database = Database(database_url, pool_size=16, clock=clock)
    yield database
    await database.close()


@pytest.fixture
def customer(database: Database) -> Callable[[], Customer]:
    return lambda: open_customer(database)
