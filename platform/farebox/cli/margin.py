"""`farebox margin`."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import rich_click as click

from farebox.billing.exports.margin import Margin, margins, write_margins
from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.clock import utc_now
from farebox.core.money import plain

DATE = click.DateTime(["%Y-%m-%d"])


@click.command()
@click.option("--from", "start", type=DATE, required=True, help="The first day (UTC).")
@click.option("--to", "end", type=DATE, help="The last day (UTC); by default today.")
@click.option("--organization", type=identifiers.organization_id, help="By default all.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write CSV to this file instead."
)
@json_option
def margin(
    start: datetime, end: datetime | None, organization: UUID | None, out: Path | None, as_json: bool
) -> None:
    """What was earned beside what the devices cost, by day, organization and model.

    FAREBOX_DEVICE_HOUR_COST says what an hour of a device costs.
    """
    first = start.replace(tzinfo=UTC)
    after = (end or utc_now()).replace(tzinfo=UTC, hour=0, minute=0, second=0, microsecond=0) + timedelta(
        days=1
    )
    if after <= first:
        raise click.UsageError("--from lies after --to.")

    async def work(operation: Operation) -> list[Margin] | int:
        rows = margins(
            operation.database.url,
            first,
            after,
            cost_per_hour=Decimal(operation.settings.device_hour_cost),
            currency=operation.settings.currency,
            organization_id=organization,
        )
        return [row async for row in rows] if out is None else await write_margins(rows, out)

    made = operate(work)
    if isinstance(made, int):
        answer_json({"rows": made}) if as_json else click.echo(f"{made:,} rows in {out}.")
        return
    nothing = f"Nothing was used from {first:%Y-%m-%d} to {after - timedelta(days=1):%Y-%m-%d}."
    answer_rows([_described(row) for row in made], as_json=as_json, nothing=nothing)


def _described(row: Margin) -> dict[str, Any]:
    amounts = {name: plain(getattr(row, name), row.currency) for name in ("revenue", "device_cost", "profit")}
    return {
        **asdict(row),
        **amounts,
        "device_seconds": format(row.device_seconds, "f"),
        "margin": None if row.margin is None else format(row.margin, "f"),
    }
