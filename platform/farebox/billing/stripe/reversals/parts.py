"""How much of a top-up goes back, and what that does to the ledger."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models_stripe import TopUp, TopUpDispute, TopUpRefund
from farebox.billing.stripe.account import Account
from farebox.billing.stripe.amounts import from_minor, share, to_minor
from farebox.billing.stripe.settling import follow_top_up, top_up_of
from farebox.billing.withdrawals import book, restore, withdraw
from farebox.core.database import Database


@dataclass(frozen=True)
class Part:
    """Some of a top-up: of the balance, and of the tax beside it."""

    credit: Decimal
    tax: Decimal

    @property
    def gross(self) -> Decimal:
        return self.credit + self.tax


def tax_of(row: TopUp, gone: Part, credit: Decimal) -> Decimal:
    """In all, tax goes back as the credit does; the last part takes the rest."""
    whole, tax = to_minor(row.amount, row.currency), to_minor(row.tax, row.currency)
    until_now = share(to_minor(gone.credit + credit, row.currency), whole, tax)
    return max(from_minor(until_now, row.currency) - gone.tax, Decimal(0))


def part_of(row: TopUp, gone: Part, gross: int) -> Part:
    """How much of a gross amount at Stripe is of the balance."""
    paid = to_minor(row.amount + row.tax, row.currency)
    before = to_minor(gone.gross, row.currency)
    until_now = share(before + gross, paid, to_minor(row.amount, row.currency))
    credit = max(from_minor(until_now, row.currency) - gone.credit, Decimal(0))
    whole = from_minor(gross, row.currency)
    return Part(min(credit, whole), whole - min(credit, whole))


async def gone_of(session: AsyncSession, top_up_id: UUID) -> Part:
    """What went back of a top-up, or is on its way."""
    credit, tax = Decimal(0), Decimal(0)
    for model, over in ((TopUpRefund, ("failed",)), (TopUpDispute, ("open", "reinstated"))):
        query = select(func.coalesce(func.sum(model.credit), 0), func.coalesce(func.sum(model.tax), 0)).where(
            model.top_up_id == top_up_id, model.state.not_in(over)
        )
        sums = (await session.execute(query)).one()
        credit, tax = credit + sums[0], tax + sums[1]
    return Part(credit, tax)


async def paid_top_up(database: Database, account: Account, payment_intent: str | None) -> TopUp | None:
    """Whose payment it is; brought up to date first, since money comes before it goes back."""
    row = None if payment_intent is None else await top_up_of(database, account, payment_intent)
    if row is not None and (row.state != "paid" or row.fee is None):
        row = await follow_top_up(database, account, row)
    return row if row is not None and row.state == "paid" else None


async def take(
    session: AsyncSession, row: TopUp, part: Part, kind: str, account: str, reference: str
) -> None:
    shared: dict[str, Any] = {"currency": row.currency, "kind": kind}
    await withdraw(
        session, row.organization_id, amount=part.credit, account=account, reference=reference, **shared
    )
    tax: dict[str, Any] = {"amount": part.tax, "reference": f"{reference}, tax"}
    await book(session, row.organization_id, debit="tax", credit=account, **tax, **shared)


async def bring_back(
    session: AsyncSession, row: TopUp, part: Part, kind: str, account: str, reference: str
) -> None:
    shared: dict[str, Any] = {"currency": row.currency, "kind": kind}
    await restore(
        session, row.organization_id, amount=part.credit, account=account, reference=reference, **shared
    )
    tax: dict[str, Any] = {"amount": part.tax, "reference": f"{reference}, tax"}
    await book(session, row.organization_id, debit=account, credit="tax", **tax, **shared)


async def note_gone(
    session: AsyncSession,
    row: TopUp,
    part: Part,
    reference: str,
    kind: str,
    account: str,
    *,
    back: bool = False,
) -> None:
    """The money has left for good; `back`: it came back to us after all."""
    await book(
        session,
        row.organization_id,
        amount=-part.gross if back else part.gross,
        currency=row.currency,
        kind=kind,
        debit=account,
        credit="cash",
        reference=f"{reference}, gone" if not back else reference,
    )
