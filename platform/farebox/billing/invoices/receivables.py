"""What invoices have open: payments go to the oldest first, and each is paid once.

In the ledger a payment settles what was drawn on the credit line (`application` transfers). Here it is noted
which invoice that was. What is paid before there is an invoice waits for the next one.

All under `Database.meter_transaction()`, with the organization's scope locked by the caller.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.models import Invoice, InvoicePayment
from farebox.billing.invoices.months.movements import paid_off
from farebox.billing.invoices.months.standing import drawn, last_closed
from farebox.billing.ledger import Transfer, enter
from farebox.core.database import present
from farebox.core.ids import new_id
from farebox.limits.balances import Purse

log = structlog.get_logger(__name__)

_OWED = ("open", "uncollectible")
# What is booked under a time so far back was committed long ago: statements take three seconds at most.
_SETTLED = timedelta(minutes=1)


@dataclass(frozen=True)
class Known:
    """What was receivable by the ledger at a moment."""

    until: datetime
    receivable: Decimal


async def note_payments(session: AsyncSession, organization_id: UUID, currency: str) -> None:
    """Give what was paid, and went to no invoice yet, to those that are open, the oldest first."""
    left = await unassigned(session, organization_id, currency)
    for invoice in await _open_invoices(session, organization_id, currency):
        left -= await assign(session, invoice, min(left, invoice.outstanding), reference=None)


async def unassigned(session: AsyncSession, organization_id: UUID, currency: str) -> Decimal:
    """What was paid on the credit line and went to no invoice yet.

    A month in which more was given back than used has a document that asks for less than nothing: that is
    paid to the others.
    """
    query = (
        select(func.coalesce(func.sum(InvoicePayment.amount), 0))
        .join(Invoice, Invoice.id == InvoicePayment.invoice_id)
        .where(InvoicePayment.organization_id == organization_id, Invoice.currency == currency)
    )
    assigned = Decimal(await session.scalar(query) or 0)
    given = select(func.coalesce(func.sum(-Invoice.due), 0)).where(
        Invoice.organization_id == organization_id, Invoice.currency == currency, Invoice.due < 0
    )
    given_back = Decimal(await session.scalar(given) or 0)
    return max(await paid_off(session, organization_id, currency) + given_back - assigned, Decimal(0))


async def assign(
    session: AsyncSession, invoice: Invoice, amount: Decimal, *, reference: str | None
) -> Decimal:
    """Note that so much of an invoice is paid; returns it."""
    if amount <= 0:
        return Decimal(0)
    session.add(
        InvoicePayment(
            id=new_id(),
            organization_id=invoice.organization_id,
            invoice_id=invoice.id,
            amount=amount,
            reference=reference,
        )
    )
    invoice.paid += amount
    await settle(session, invoice)
    return amount


async def settle(session: AsyncSession, invoice: Invoice) -> None:
    """Let the status follow what is left: once nothing is, the invoice is paid; void if all was credited."""
    await session.flush()
    if invoice.outstanding > 0:
        return
    status = "void" if 0 < invoice.due == invoice.credited else "paid"
    if status != invoice.status:
        invoice.status = status
        invoice.settled_at = invoice.settled_at or await present(session)
        await session.flush()
        log.info(f"invoice.{status}", number=invoice.number, organization_id=str(invoice.organization_id))


async def look_back(session: AsyncSession, organization_id: UUID, currency: str) -> Known:
    """What was receivable a minute before this transaction began.

    To be asked before the scope is locked: of a customer who uses much, it takes a while.
    """
    closed, end = await last_closed(session, organization_id, currency)
    until: datetime = (await session.execute(select(func.now() - _SETTLED))).scalar_one()
    until = max(until, end or until)
    span = (end, until)
    return Known(until, closed.receivable + await drawn(session, organization_id, currency, span))


async def net_out(session: AsyncSession, purse: Purse, currency: str, known: Known) -> None:
    """Let prepaid money pay what is receivable, as far as there are both; what is paid twice is prepaid.

    There may be both after an answer was credited that prepaid money had paid, while the credit line was
    drawn on. The balance, which is the difference, stays.
    """
    since = await drawn(session, purse.organization_id, currency, (known.until, None))
    amount = known.receivable + since - purse.receivable
    if amount == 0:
        return
    debit, credit = ("prepaid", "receivable") if amount > 0 else ("receivable", "prepaid")
    await enter(
        session,
        purse.organization_id,
        Transfer(
            kind="application",
            debit_account=debit,
            credit_account=credit,
            amount=abs(amount),
            currency=currency,
            reference=f"netted out {new_id()}",
        ),
    )


async def _open_invoices(session: AsyncSession, organization_id: UUID, currency: str) -> list[Invoice]:
    query = (
        select(Invoice)
        .where(
            Invoice.organization_id == organization_id,
            Invoice.currency == currency,
            Invoice.status.in_(_OWED),
        )
        .order_by(Invoice.due_on, Invoice.number)
    )
    return list(await session.scalars(query))
