"""A real Postgres, migrated by Alembic, for the whole run; every test makes its own organization.

Where several processes share the run (`-n`), each has a Postgres of its own.
"""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from alembic import command
from alembic.config import Config

from farebox.core.database import Database
from farebox.core.postgres.embedded import EmbeddedPostgres
from tests.leftovers import TemporaryRoot

ROOT = Path(__file__).resolve().parents[1]
_TEMPORARY = pytest.StashKey[TemporaryRoot]()
_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Tiny matrices gain nothing from threads, and lose much to the process beside this one.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not hasattr(config, "workerinput"):  # a process of `-n` shares the first one's folder
        config.stash[_TEMPORARY] = TemporaryRoot()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_FAILED] = exitstatus != pytest.ExitCode.OK


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seed = config.getoption("randomly_seed", None)
    if seed is not None:
        terminalreporter.write_line(f"The same order once more: --randomly-seed={seed}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _TEMPORARY in config.stash:
        config.stash[_TEMPORARY].close(keep=config.stash.get(_FAILED, False))


def migrate(url: str) -> None:
    """Bring a database to the newest schema, as its owner. Not to be called where a loop runs."""
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = url
    command.upgrade(config, "head")


@pytest.fixture(scope="session", autouse=True)
def _logs_apart() -> None:
    """What a server in this process logs is no part of what a command in it prints meanwhile."""
    # Plain: a traceback with all its locals takes longer than most tests.
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.processors.add_log_level, renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.__stdout__),
    )


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The owner's URL of an empty database; others can be made beside it."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server.url


@pytest.fixture(scope="session")
def database_url(postgres_url: str) -> str:
    """The owner's URL of the migrated database that tests share."""
    migrate(postgres_url)
    return postgres_url


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()
