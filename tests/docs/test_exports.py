"""docs/exports.md tells of commands that work, and of all formats and limits that there are."""

import re
import shlex
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from farebox.billing.exports import kinds, service, tasks
from farebox.billing.exports.accounting import HEADS
from farebox.billing.exports.daily import DAYS
from farebox.billing.exports.links import LINK_SECONDS
from tests.cli.commands import Farebox, shell
from tests.conftest import ROOT, migrate
from tests.docs.pages import code

PATH = ROOT / "docs" / "exports.md"
PAGE = " ".join(PATH.read_text().split())
COMMANDS = [line for line in code(PATH) if re.match(r"farebox \w+ ", line)]


@pytest.fixture(scope="session")
async def empty_url(postgres_url: str) -> str:
    """Of books that close: others' tests write usage without a ledger."""
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE DATABASE manual")
    await connection.close()
    return make_url(postgres_url).set(database="manual").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def operator(empty_url: str, tmp_path_factory: pytest.TempPathFactory) -> Farebox:
    migrate(empty_url)
    return shell(tmp_path_factory.mktemp("operator"), empty_url)


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 7


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_does_what_it_says(operator: Farebox, command: str, tmp_path: Path) -> None:
    program, *words = shlex.split(command)
    assert program == "farebox"
    answer = Farebox(tmp_path, operator.settings).run(*words)
    assert answer.status == 0, answer.err


def test_every_format_is_told() -> None:
    for table in ("usage", "cost", "journal"):
        (row,) = re.findall(rf"^\| `{table}` \|.*$", PATH.read_text(), re.MULTILINE)
        told = set(re.findall(r"`([\w.-]+)`", row)) - {table}
        there = {name for each, name in kinds.KINDS if each == table}
        others = {"csv", "jsonl", "parquet"} if "these" in row else set()
        assert told | others == there | (set(HEADS) if table == "journal" else set())


@pytest.mark.parametrize(
    "said",
    [
        f"spans {kinds.MAX_SPAN.days} days at most",
        f"{service.PARTS_LISTED:,} links",
        "two exports under way" if service.MAX_UNDER_WAY == 2 else "?",
        "five million rows" if tasks.MAX_ROWS == 5_000_000 else "?",
        "opens for an hour" if LINK_SECONDS == 3600 else "?",
        "kept for seven days" if timedelta(days=7) == service.KEPT else "?",
        "catches up on seven days" if DAYS == 7 else "?",
        "a minute after its end" if timedelta(minutes=1) == kinds.GRACE else "?",
    ],
)
def test_every_limit_is_told(said: str) -> None:
    assert said in PAGE
