"""Databases of these tests' own, and shells that operate on them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.core.database import Database
from farebox.core.ids import new_id
from tests.cli.commands import Farebox, shell

MakeDatabase = Callable[[], Awaitable[str]]


@pytest.fixture(scope="session")
async def make_database(database_url: str) -> AsyncIterator[MakeDatabase]:
    """Makes empty databases beside the shared one; answers with the owner's URL."""
    connection = await asyncpg.connect(database_url)

    async def make() -> str:
        name = f"cli_{new_id().hex}"
        await connection.execute(f"CREATE DATABASE {name}")
        return make_url(database_url).set(database=name).render_as_string(hide_password=False)

    # They go with the cluster: dropping one costs a checkpoint.
    yield make
    await connection.close()


@pytest.fixture(scope="session")
async def shop_url(make_database: MakeDatabase) -> str:
    """An empty database, for one Farebox that many tests operate."""
    return await make_database()


@pytest.fixture(scope="session")
def shop(shop_url: str, tmp_path_factory: pytest.TempPathFactory) -> Farebox:
    """An operator's shell on a database that `farebox migrate` has prepared."""
    shop = shell(tmp_path_factory.mktemp("shop"), shop_url)
    assert shop.json("migrate")["before"] is None
    return shop


@pytest.fixture
async def shop_database(shop: Farebox, shop_url: str) -> AsyncIterator[Database]:
    database = Database(shop_url)
    yield database
    await database.close()


@pytest.fixture
async def empty(make_database: MakeDatabase, tmp_path: Path) -> Farebox:
    """An operator's shell on a database without tables."""
    return shell(tmp_path, await make_database())


@pytest.fixture(scope="session")
def organization(shop: Farebox) -> str:
    return str(shop.json("org", "create", "Acme")["organization_id"])
