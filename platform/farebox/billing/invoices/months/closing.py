"""A month is closed: its documents are numbered and frozen, and the ledger says what they say.

Each organization's document is one transaction under the lock of its scope, so that any number of workers may
do this, and a crash leaves nothing half done. Sessions come from `Database.meter_transaction`.
"""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.funds import lock_purse
from farebox.billing.invoices.documents.document import to_json
from farebox.billing.invoices.errors import BooksDisagree, MonthOpen
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.drafting import Draft, document_of, draft
from farebox.billing.invoices.months.month import first_day, why_still_open
from farebox.billing.invoices.months.movements import moved
from farebox.billing.invoices.numbering import next_number
from farebox.billing.invoices.parties import issuer_of
from farebox.billing.invoices.receivables import look_back, net_out, note_payments, settle
from farebox.billing.ledger import Transfer, enter
from farebox.billing.months import Month
from farebox.core.database import present
from farebox.core.ids import new_id
from farebox.core.money import plain
from farebox.core.settings import Settings
from farebox.limits.balances import Purse, add_to_balance, lock_balance
from farebox.usage.monthly import amount_used

log = structlog.get_logger(__name__)


async def close_month(
    session: AsyncSession, organization_id: UUID, month: Month, currency: str, settings: Settings
) -> Invoice:
    """The organization's document of the month; the one that is there, if it was closed before.

    Raises MonthOpen while something may still be booked into it, IssuerIncomplete, BooksDisagree,
    InvalidAmount for a currency that is not the balance's, NotFound.
    """
    await check_over(session, month, settings)
    issuer_of(settings)
    # What takes long is read before the lock: a month that is over does not change.
    drafted = await draft(session, organization_id, month, currency)
    known = await look_back(session, organization_id, currency)
    purse = await lock_purse(session, organization_id, currency)
    if (before := await find_of_month(session, organization_id, month, currency)) is not None:
        return before
    await _check_books(session, purse, drafted)
    invoice = await _issue(session, purse, drafted, settings)
    if invoice.kind == "invoice":
        await _enter_rounding(session, invoice, drafted.sums.rounding)
        await net_out(session, await lock_balance(session, organization_id), currency, known)
    await note_payments(session, organization_id, currency)
    await settle_at_once(session, invoice)
    log.info("invoice.closed", number=invoice.number, organization_id=str(organization_id), month=str(month))
    return invoice


async def find_of_month(
    session: AsyncSession, organization_id: UUID, month: Month, currency: str
) -> Invoice | None:
    """The invoice or statement of a month, if it is closed."""
    query = select(Invoice).where(
        Invoice.organization_id == organization_id,
        Invoice.month == first_day(month),
        Invoice.currency == currency,
        Invoice.kind != "credit_note",
    )
    return await session.scalar(query)


async def settle_at_once(session: AsyncSession, invoice: Invoice) -> None:
    """An invoice that asks for nothing is paid."""
    if invoice.kind == "invoice":
        await settle(session, invoice)


async def check_over(session: AsyncSession, month: Month, settings: Settings) -> None:
    """Raises MonthOpen while something may still be booked into the month."""
    if (reason := await why_still_open(session, month, settings)) is not None:
        raise MonthOpen(reason)


async def _check_books(session: AsyncSession, purse: Purse, drafted: Draft) -> None:
    """The balance that the document tells must lead to the one that admission works with.

    Nothing moves it meanwhile: its scope is locked. Raises BooksDisagree.
    """
    owner, currency, end = purse.organization_id, drafted.currency, drafted.month.end
    since = await moved(session, owner, currency, (end, None))
    used = await amount_used(session, owner, start=end, end=None, currency=currency)
    balance = drafted.closing.balance + sum((each.change for each in since), Decimal(0)) - used
    if balance != purse.balance:
        raise BooksDisagree(plain(purse.balance - balance, currency), currency)


async def _issue(session: AsyncSession, purse: Purse, drafted: Draft, settings: Settings) -> Invoice:
    document = await document_of(
        session, purse.organization_id, drafted, settings, credit_line=purse.credit_line
    )
    issued_at = await present(session)
    number = await next_number(session, issuer=settings.issuer.code, kind=document.kind, year=issued_at.year)
    is_invoice = document.kind == "invoice"
    due_on = issued_at.date() + timedelta(days=settings.invoice_due_days) if is_invoice else None
    document = msgspec.structs.replace(
        document,
        number=number,
        issued_on=issued_at.date().isoformat(),
        due_on=due_on.isoformat() if due_on else None,
    )
    invoice = Invoice(
        id=new_id(),
        organization_id=purse.organization_id,
        kind=document.kind,
        number=number,
        month=first_day(drafted.month),
        currency=drafted.currency,
        status="open" if is_invoice else "final",
        issued_at=issued_at,
        due_on=due_on,
        total=drafted.sums.total,
        due=drafted.sums.due if is_invoice else Decimal(0),
        closing_balance=drafted.closing.balance,
        closing_receivable=drafted.closing.receivable,
        document=to_json(document),
    )
    session.add(invoice)
    await session.flush()
    return invoice


async def _enter_rounding(session: AsyncSession, invoice: Invoice, rounding: Decimal) -> None:
    """So that what is receivable is what the invoice says."""
    if rounding == 0:
        return
    debit, credit = ("receivable", "rounding") if rounding > 0 else ("rounding", "receivable")
    await enter(
        session,
        invoice.organization_id,
        Transfer(
            kind="rounding",
            debit_account=debit,
            credit_account=credit,
            amount=abs(rounding),
            currency=invoice.currency,
            reference=f"rounding of {invoice.number}",
        ),
    )
    await add_to_balance(session, invoice.organization_id, amount=-rounding, currency=invoice.currency)
