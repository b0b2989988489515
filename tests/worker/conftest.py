"""A database of these tests' own: what is due in it is theirs alone."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.core.database import Database
from tests.conftest import migrate


@pytest.fixture(scope="module")
async def empty_outbox_url(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE DATABASE worker")
    await connection.close()
    return make_url(database_url).set(database="worker").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def own_url(empty_outbox_url: str) -> str:
    migrate(empty_outbox_url)
    return empty_outbox_url


@pytest.fixture
async def own_database(own_url: str) -> AsyncIterator[Database]:
    database = Database(own_url)
    yield database
    await database.close()
