"""`farebox usage`."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import rich_click as click

from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_rows, json_option, operate
from farebox.core.ids import external
from farebox.core.money import plain
from farebox.usage.totals import UsageTotal, usage_by_organization


@click.group()
def usage() -> None:
    """What was used, and what it cost."""


@usage.command()
@click.option("--organization", type=identifiers.organization_id, help="By default all.")
@click.option("--days", type=click.IntRange(1, 3660), default=30, show_default=True)
@json_option
def show(organization: UUID | None, days: int, as_json: bool) -> None:
    """Settled usage by organization and model."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.meter_transaction() as session:
            totals = await usage_by_organization(session, organization, since=timedelta(days=days))
            return [_describe(each) for each in totals]

    answer_rows(operate(work), as_json=as_json, nothing=f"No usage in the last {days} days.")


def _describe(total: UsageTotal) -> dict[str, Any]:
    return {
        "organization_id": external("org", total.organization_id),
        "organization": total.organization,
        "model": total.model,
        "requests": total.requests,
        "input_tokens": total.input_tokens,
        "cached_input_tokens": total.cached_input_tokens,
        "output_tokens": total.output_tokens,
        "amount": plain(total.amount, total.currency),
        "currency": total.currency,
    }
