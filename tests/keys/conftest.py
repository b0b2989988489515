"""A keyring on the shared database, and a database of one's own for rotating signing keys."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.core.database import Database
from farebox.keys.tokens import Keyring
from tests.conftest import migrate
from tests.tenants.factories import make_keyring

_OWN = "signing_keys"


@pytest.fixture
async def keyring(database: Database) -> Keyring:
    return await make_keyring(database)


@pytest.fixture(scope="module")
async def empty_database_url(database_url: str) -> AsyncIterator[str]:
    """The owner's URL of a database beside the shared one."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(f"CREATE DATABASE {_OWN}")
    yield make_url(database_url).set(database=_OWN).render_as_string(hide_password=False)
    await connection.execute(f"DROP DATABASE {_OWN}")
    await connection.close()


@pytest.fixture(scope="module")
def migrated_url(empty_database_url: str) -> str:
    """Migrated. Retiring a signing key in the shared database would end other tests' API keys."""
    migrate(empty_database_url)
    return empty_database_url


@pytest.fixture
async def own_database(migrated_url: str) -> AsyncIterator[Database]:
    """Without a signing key."""
    connection = await asyncpg.connect(migrated_url)
    await connection.execute("TRUNCATE signing_key")
    await connection.close()
    database = Database(migrated_url)
    yield database
    await database.close()
