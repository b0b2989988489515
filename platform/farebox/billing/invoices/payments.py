"""Payments of one invoice, and those that will not come. Sessions come from `Database.meter_transaction`."""

from decimal import Decimal

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.funds import lock_purse, top_up
from farebox.billing.invoices.errors import NotPayable, UnknownInvoice
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.receivables import Known, assign, look_back, net_out, note_payments, unassigned
from farebox.limits.balances import lock_balance

log = structlog.get_logger(__name__)


async def pay(session: AsyncSession, number: str, *, amount: Decimal, reference: str) -> tuple[Invoice, bool]:
    """Take in what was paid for an invoice, once per reference; False beside it when it was taken in before.

    What is above the invoice pays others that are open, the oldest first; the rest is prepaid. Raises
    UnknownInvoice, NotPayable, InvalidAmount, and OtherTransfer for a reference of another amount.
    """
    invoice, known = await lock_invoice(session, number)
    if invoice.kind != "invoice" or invoice.status == "void":
        raise NotPayable(f"{number} asks for no payment.")
    organization_id, currency = invoice.organization_id, invoice.currency
    await net_out(session, await lock_balance(session, organization_id), currency, known)
    # What came before goes where it would have gone, lest this payment be taken for it.
    await note_payments(session, organization_id, currency)
    if not await top_up(
        session, organization_id=organization_id, amount=amount, currency=currency, reference=reference
    ):
        return invoice, False
    came = min(amount, await unassigned(session, organization_id, currency))
    await assign(session, invoice, min(came, invoice.outstanding), reference=reference)
    await note_payments(session, organization_id, currency)
    return invoice, True


async def write_off(session: AsyncSession, number: str) -> Invoice:
    """Expect no payment of an invoice any more; it stays owed, and a payment that comes pays it.

    Raises UnknownInvoice, NotPayable when nothing is open.
    """
    invoice, _ = await lock_invoice(session, number)
    if invoice.status not in ("open", "uncollectible"):
        raise NotPayable(f"{number} has nothing open.")
    invoice.status = "uncollectible"
    await session.flush()
    log.info("invoice.uncollectible", number=number, organization_id=str(invoice.organization_id))
    return invoice


async def lock_invoice(session: AsyncSession, number: str) -> tuple[Invoice, Known]:
    """The document of a number, with its organization's scope locked, and what was receivable before.

    Raises UnknownInvoice.
    """
    found = await session.scalar(select(Invoice).where(Invoice.number == number))
    if found is None:
        raise UnknownInvoice
    known = await look_back(session, found.organization_id, found.currency)
    await lock_purse(session, found.organization_id, found.currency)
    await session.refresh(found)
    return found, known
