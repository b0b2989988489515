"""What operator commands share: settings, a database, and answers for people or machines."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import rich_click as click
from rich.console import Console
from rich.table import Table

from farebox.cli.data_directory import any_postgres
from farebox.cli.migrations import require_newest
from farebox.core.database import Database
from farebox.core.logs import configure_logs
from farebox.core.settings import Settings, load_settings

Result = TypeVar("Result")

WIDE = 1000

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


@dataclass(frozen=True)
class Operation:
    """An operator's access to one Farebox."""

    settings: Settings
    database: Database


def operate(work: Callable[[Operation], Awaitable[Result]], settings: Settings | None = None) -> Result:
    """Do `work` on the configured database, or on the embedded one, started if nobody runs it."""
    settings = settings or load_settings()
    configure_logs("WARNING")
    with any_postgres(settings) as url:
        return asyncio.run(_with_database(settings, url, work))


async def _with_database(
    settings: Settings, url: str, work: Callable[[Operation], Awaitable[Result]]
) -> Result:
    await require_newest(url)
    database = Database(url, pool_size=2)
    try:
        return await work(Operation(settings, database))
    finally:
        await database.close()


def answer_json(answer: object) -> None:
    """Print a JSON document; amounts are strings, moments RFC 3339."""
    click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())


def answer_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, nothing: str) -> None:
    """Print rows as a table or as a JSON list; `nothing` is said to people when there are none."""
    if as_json:
        answer_json(rows)
        return
    if not rows:
        click.echo(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    # A pipe has no width, and cutting there would cut ids.
    console = Console(width=None if sys.stdout.isatty() else WIDE)
    console.print(table)
