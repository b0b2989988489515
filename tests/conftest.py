"""A real Postgres, migrated by Alembic, for the whole run; every test makes its own organization."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from farebox.core.database import Database
from farebox.core.postgres.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[1]


def migrate(url: str) -> None:
    """Bring a database to the newest schema, as its owner. Not to be called where a loop runs."""
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = url
    command.upgrade(config, "head")


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The owner's URL of a fresh, migrated database."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        migrate(server.url)
        yield server.url


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()
