"""An organization's money: `farebox org credit` and its siblings."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import rich_click as click

from farebox.billing import promotions
from farebox.billing.funds import grant_credit_line, take_back, top_up
from farebox.billing.ledger import account_balances
from farebox.cli import identifiers
from farebox.cli.operation import Operation, answer_json, answer_rows, json_option, operate
from farebox.core.money import plain


@click.command()
@click.argument("organization", type=identifiers.organization_id)
@click.argument("amount", type=identifiers.amount)
@click.option("--reference", required=True, help="Why, for example a receipt's number; counted once.")
@json_option
def credit(organization: UUID, amount: Decimal, reference: str, as_json: bool) -> None:
    """Add prepaid credit. The same reference again adds nothing."""

    async def work(operation: Operation) -> bool:
        async with operation.database.meter_transaction() as session:
            return await top_up(
                session,
                organization_id=organization,
                amount=amount,
                currency=operation.settings.currency,
                reference=reference,
            )

    added = operate(work)
    if as_json:
        answer_json({"added": added})
    else:
        click.echo(f"{plain(amount)} added." if added else "Added before, under this reference.")


@click.command()
@click.argument("organization", type=identifiers.organization_id)
@click.argument("amount", type=identifiers.amount)
@click.option("--reason", required=True, help="Why; it stands in the ledger, and is counted once.")
@json_option
def debit(organization: UUID, amount: Decimal, reason: str, as_json: bool) -> None:
    """Take back credit that was added by mistake, as far as it is left.

    The ledger keeps both entries. The same reason again takes nothing.
    """

    async def work(operation: Operation) -> bool:
        async with operation.database.meter_transaction() as session:
            return await take_back(
                session,
                organization_id=organization,
                amount=amount,
                currency=operation.settings.currency,
                reason=reason,
            )

    taken = operate(work)
    if as_json:
        answer_json({"taken_back": taken})
    else:
        click.echo(f"{plain(amount)} taken back." if taken else "Taken back before, for this reason.")


@click.command()
@click.argument("organization", type=identifiers.organization_id)
@click.argument("amount", type=identifiers.amount)
@click.option("--reference", required=True, help="Why, for example a campaign's name; counted once.")
@click.option("--expires", type=identifiers.MOMENT, help="When what is left ends. Never, unless given.")
@json_option
def grant(
    organization: UUID, amount: Decimal, reference: str, expires: datetime | None, as_json: bool
) -> None:
    """Give promotional credit. It is used before what was paid in, the soonest to expire first."""

    async def work(operation: Operation) -> bool:
        async with operation.database.meter_transaction() as session:
            return await promotions.grant(
                session,
                organization_id=organization,
                amount=amount,
                currency=operation.settings.currency,
                reference=reference,
                expires_at=expires,
            )

    given = operate(work)
    if as_json:
        answer_json({"given": given})
    else:
        click.echo(f"{plain(amount)} given." if given else "Given before, under this reference.")


@click.command("credit-line")
@click.argument("organization", type=identifiers.organization_id)
@click.argument("amount", type=identifiers.amount)
@json_option
def credit_line(organization: UUID, amount: Decimal, as_json: bool) -> None:
    """Let the balance fall to minus AMOUNT, for a customer who pays by invoice. 0 takes the line away."""

    async def work(operation: Operation) -> None:
        async with operation.database.meter_transaction() as session:
            await grant_credit_line(
                session, organization, amount=amount, currency=operation.settings.currency
            )

    operate(work)
    if as_json:
        answer_json({"credit_line": plain(amount)})
    else:
        click.echo(f"The balance may fall to -{plain(amount)}." if amount else "There is no credit line now.")


@click.command()
@click.argument("organization", type=identifiers.organization_id)
@json_option
def accounts(organization: UUID, as_json: bool) -> None:
    """What the organization's accounts in the ledger hold: credits less debits, zero in all."""

    async def work(operation: Operation) -> list[dict[str, Any]]:
        async with operation.database.meter_transaction() as session:
            held = await account_balances(session, organization)
        return [{"account": name, "amount": plain(held[name])} for name in sorted(held)]

    answer_rows(operate(work), as_json=as_json, nothing="No money has moved yet.")
