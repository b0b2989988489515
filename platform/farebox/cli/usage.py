"""`farebox usage`."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import rich_click as click

from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_rows, json_option, operate
from farebox.core.clock import utc_now
from farebox.core.ids import external
from farebox.core.money import plain
from farebox.usage.totals import UsageTotal, usage_by_organization

DEFAULT_DAYS = 30
DATE = click.DateTime(["%Y-%m-%d"])


@click.group()
def usage() -> None:
    """What was used, and what it cost."""


@usage.command()
@click.option("--organization", type=identifiers.organization_id, help="By default all.")
@click.option("--days", type=click.IntRange(1, 3660), help="The last so many days; by default 30.")
@click.option("--from", "start", type=DATE, help="The first day (UTC), instead of --days.")
@click.option("--to", "end", type=DATE, help="The last day (UTC); by default today.")
@json_option
def show(
    organization: UUID | None, days: int | None, start: datetime | None, end: datetime | None, as_json: bool
) -> None:
    """Settled usage by organization and model, and what it came to."""
    first, last = _range(days, start, end)

    async def work(operation: Operation) -> list[UsageTotal]:
        async with operation.database.meter_transaction() as session:
            return await usage_by_organization(session, organization, start=first, end=last)

    totals = operate(work)
    rows = [_describe(each) for each in totals]
    nothing = f"No usage from {first:%Y-%m-%d} to {last - timedelta(microseconds=1):%Y-%m-%d}."
    answer_rows(rows, as_json=as_json, nothing=nothing)
    if not as_json:
        for line in _sums(totals):
            click.echo(line)


def _range(days: int | None, start: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    """From a moment to before another one. Raises click.UsageError."""
    if days is not None and (start or end):
        raise click.UsageError("Give either --days, or --from and --to.")
    if start is None and end is not None:
        raise click.UsageError("--to needs --from.")
    now = utc_now()
    if start is None:
        # An hour more: the one that has begun is counted, too.
        return now - timedelta(days=days or DEFAULT_DAYS), now + timedelta(hours=1)
    first, last = start.replace(tzinfo=UTC), (end or now).replace(tzinfo=UTC)
    if last < first:
        raise click.UsageError("--from lies after --to.")
    return first, last.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _sums(totals: Sequence[UsageTotal]) -> Iterator[str]:
    for currency in sorted({each.currency for each in totals}):
        its = [each for each in totals if each.currency == currency]
        amount = plain(sum((each.amount for each in its), Decimal(0)), currency)
        tokens = sum(each.input_tokens + each.cached_input_tokens + each.output_tokens for each in its)
        requests = sum(each.requests for each in its)
        yield f"Total: {requests:,} requests, {tokens:,} tokens, {amount} {currency}."


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
