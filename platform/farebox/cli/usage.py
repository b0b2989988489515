"""`farebox usage`."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import rich_click as click
from sqlalchemy import Executable, func, select

from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_rows, json_option, operate
from farebox.core.ids import external
from farebox.core.money import plain
from farebox.metering.models import UsageHour
from farebox.tenants.models import Organization


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
            rows = await session.execute(_query(organization, days))
            return [_describe(row) for row in rows.mappings()]

    answer_rows(operate(work), as_json=as_json, nothing=f"No usage in the last {days} days.")


def _query(organization: UUID | None, days: int) -> Executable:
    sums = (
        func.sum(column).label(column.key)
        for column in (
            UsageHour.requests,
            UsageHour.input_tokens,
            UsageHour.cached_input_tokens,
            UsageHour.output_tokens,
            UsageHour.amount,
        )
    )
    groups = (UsageHour.organization_id, Organization.name, UsageHour.model_id, UsageHour.currency)
    query = (
        select(*groups, *sums)
        .join(Organization, Organization.id == UsageHour.organization_id)
        .where(UsageHour.hour >= func.now() - timedelta(days=days))
        .group_by(*groups)
        .order_by(Organization.name, UsageHour.model_id)
    )
    return query if organization is None else query.where(UsageHour.organization_id == organization)


def _describe(row: Any) -> dict[str, Any]:
    return {
        "organization_id": external("org", row["organization_id"]),
        "organization": row["name"],
        "model": row["model_id"],
        "requests": int(row["requests"]),
        "input_tokens": int(row["input_tokens"]),
        "cached_input_tokens": int(row["cached_input_tokens"]),
        "output_tokens": int(row["output_tokens"]),
        "amount": plain(row["amount"], row["currency"]),
        "currency": row["currency"],
    }
