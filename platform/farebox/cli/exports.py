"""`farebox export`: usage, costs and the journal, into a folder."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import rich_click as click
from rich.console import Console
from rich.progress import Progress, TaskID

from farebox.billing.exports.accounting import HEADS
from farebox.billing.exports.folder import export_journal, export_to_folder
from farebox.billing.exports.kinds import KINDS, newest_end, period
from farebox.billing.exports.manifest import Ask, Manifest, Step
from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, json_option, operate
from farebox.core.clock import utc_now
from farebox.core.ids import external

Command = Callable[..., None]


@click.group()
def export() -> None:
    """Usage, costs and the journal as files, which come to what the ledger says.

    An export that was interrupted goes on when it is called again.
    """


def _options(*formats: str) -> Callable[[Command], Command]:
    """What all exports are asked by."""
    options = [
        click.option(
            "--format", "format_", type=click.Choice(formats), default=formats[0], show_default=True
        ),
        click.option("--from", "start", type=identifiers.MOMENT, required=True, help="The first day (UTC)."),
        click.option(
            "--to", "end", type=identifiers.MOMENT, help="The last day (UTC); by default up to now."
        ),
        click.option("--organization", type=identifiers.organization_id, help="By default all."),
        click.option(
            "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder."
        ),
        json_option,
    ]

    def with_options(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return with_options


_cut = (
    click.option("--rows-per-part", type=click.IntRange(1), help="A new file after so many rows."),
    click.option("--bytes-per-part", type=click.IntRange(1), help="And after so many bytes."),
)


def _formats(table: str) -> list[str]:
    return [name for each, name in KINDS if each == table]


@export.command()
@_options(*_formats("usage"))
@_cut[0]
@_cut[1]
def usage(**asked: Any) -> None:
    """What was used: a row for each hour, project, model and class of tokens."""
    _export("usage", **asked)


@export.command()
@_options(*_formats("cost"))
@_cut[0]
@_cut[1]
def cost(**asked: Any) -> None:
    """Usage, and whatever else moved money; `focus` is the FinOps Foundation's format."""
    _export("cost", **asked)


@export.command()
@_options(*_formats("journal"), *HEADS)
@click.option("--account", "accounts", multiple=True, help="LEDGER=YOURS: what you call an account.")
def journal(accounts: tuple[str, ...], **asked: Any) -> None:
    """A line for each day and account; for QuickBooks and Xero, rounded and balanced."""
    _export("journal", codes=dict(map(_renamed, accounts)), **asked)


def _export(
    table: str,
    *,
    format_: str,
    start: datetime,
    end: datetime | None,
    organization: UUID | None,
    out: Path,
    as_json: bool,
    rows_per_part: int | None = None,
    bytes_per_part: int | None = None,
    codes: dict[str, str] | None = None,
) -> None:
    span = period(start, _day_after(end), utc_now())
    ask = Ask(
        table=table,
        format=format_,
        start=span.start,
        end=span.end,
        organization=None if organization is None else external("org", organization),
        rows_per_part=rows_per_part,
        bytes_per_part=bytes_per_part,
    )
    made = operate(lambda operation: _write(operation, ask, out, codes or {}))
    if as_json:
        answer_json(made)
        return
    for key, sums in made.sums.items():
        click.echo(f"{key}: {', '.join(f'{name} {amount}' for name, amount in sums.items())}")
    click.echo(f"{made.rows:,} rows in {len(made.parts)} files in {out}; they come to what the ledger says.")


async def _write(operation: Operation, ask: Ask, out: Path, codes: dict[str, str]) -> Manifest:
    url, provider = operation.database.url, operation.settings.provider_name
    if ask.format in HEADS:
        return await export_journal(url, ask, out, provider=provider, codes=codes)
    # On a terminal alone: a bar in a log is noise.
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("Exporting", total=None)
        return await export_to_folder(url, ask, out, provider=provider, watch=_shown(progress, task))


def _shown(progress: Progress, task: TaskID) -> Callable[[Step], None]:
    rows = 0

    def show(step: Step) -> None:
        nonlocal rows
        rows += step.part.rows
        progress.update(task, description=f"{rows:,} rows, {step.part.name}")

    return show


def _day_after(end: datetime | None) -> datetime | None:
    """`--to` names the last day; of today, the hours that are over."""
    if end is None:
        return None
    after = end if end.hour or end.minute else end + timedelta(days=1)
    return min(after, newest_end(utc_now())) if end.date() == utc_now().date() else after


def _renamed(typed: str) -> tuple[str, str]:
    ledgers, sign, yours = typed.rpartition("=")
    if not sign or not ledgers or not yours:
        raise click.BadParameter(f"{typed!r} does not look like prepaid=2100.", param_hint="--account")
    return ledgers, yours
