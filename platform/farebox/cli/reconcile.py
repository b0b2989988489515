"""`farebox reconcile`."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import rich_click as click

from farebox.billing.reconciliation.books import Finding
from farebox.billing.reconciliation.reconcile import Reconciled
from farebox.billing.reconciliation.reconcile import reconcile as compare_books
from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, json_option, operate

SHOWN = 20


@click.command()
@click.option("--month", type=click.DateTime(["%Y-%m"]), help="Usage of this month (UTC) only, as 2026-11.")
@click.option("--organization", type=identifiers.organization_id, help="By default all.")
@json_option
@click.pass_context
def reconcile(
    context: click.Context, month: datetime | None, organization: UUID | None, as_json: bool
) -> None:
    """Compare usage, sums, ledger, balances and seals: one number everywhere, or the difference by name.

    Ends with 1 if there is any difference. Balances, reservations and what is spent are compared as they are
    now, whatever the month.
    """
    start, end = _bounds(month)

    async def work(operation: Operation) -> Reconciled:
        return await compare_books(operation.database, organization, start, end)

    done = operate(work)
    if as_json:
        answer_json({"differences": done.differences, "seconds": done.seconds, "findings": done.findings})
    else:
        for finding in sorted(done.findings, key=lambda each: each.check):
            _tell(finding)
    context.exit(1 if done.differences else 0)


def _bounds(month: datetime | None) -> tuple[datetime | None, datetime | None]:
    if month is None:
        return None, None
    start = month.replace(tzinfo=UTC)
    return start, (start + timedelta(days=31)).replace(day=1)


def _tell(finding: Finding) -> None:
    click.echo(f"{finding.check}: {finding.count or 'no'} difference{'' if finding.count == 1 else 's'}")
    for each in finding.differences[:SHOWN]:
        of = ", ".join(f"{name} {value}" for name, value in each.of.items())
        says = "; ".join(f"{name}: {value}" for name, value in each.says.items())
        click.echo(f"  {of} | {says}")
    if finding.count > SHOWN:
        click.echo(f"  … {finding.count - SHOWN} more; --json names up to a thousand")
