"""A database of these tests' own: months are closed in it for everybody who is in it."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from tests.billing.clock import Clock
from tests.billing.invoices.books import SELLER, Books
from tests.conftest import migrate


@pytest.fixture
def books(database: Database, database_url: str, seller: Settings) -> Books:
    return Books(database, database_url, seller)


@pytest.fixture(scope="session")
def seller() -> Settings:
    return SELLER


@pytest.fixture
async def empty_books(postgres_url: str, clock: Clock, seller: Settings) -> AsyncIterator[Books]:
    """Of an installation in which nobody has done anything yet."""
    name = f"books_{new_id().hex}"
    owner = await asyncpg.connect(postgres_url)
    await owner.execute(f"CREATE DATABASE {name}")
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    await asyncio.to_thread(migrate, url)
    database = Database(url, pool_size=8, clock=clock)
    yield Books(database, url, seller)
    await database.close()
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()
