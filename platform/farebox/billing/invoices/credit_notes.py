"""Credit notes: what an invoice asked for is taken back, whole or by line, never more than is left of it.

Sessions come from `Database.meter_transaction`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

import msgspec
import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.documents.document import InvoiceDocument, Line, from_json, to_json
from farebox.billing.invoices.errors import NotCreditable
from farebox.billing.invoices.models import CreditedLine, Invoice
from farebox.billing.invoices.numbering import next_number
from farebox.billing.invoices.parties import issuer_of
from farebox.billing.invoices.payments import lock_invoice
from farebox.billing.invoices.receivables import net_out, note_payments, settle
from farebox.billing.ledger import Transfer, enter
from farebox.core.database import present
from farebox.core.ids import new_id
from farebox.core.money import is_payable, plain
from farebox.core.settings import Settings
from farebox.limits.balances import add_to_balance, lock_balance

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Part:
    """Of one line, counted from 1, so much; None: all that is left of it."""

    line: int
    amount: Decimal | None = None


async def credit(
    session: AsyncSession, number: str, *, reason: str, settings: Settings, part: Part | None = None
) -> Invoice:
    """A credit note on an invoice, of one line or, without `part`, of all that is left; once per reason.

    What was still to be paid is owed no more; the rest, which was paid, becomes prepaid money. An invoice
    all of which is credited is void. Raises UnknownInvoice, NotCreditable, IssuerIncomplete.
    """
    invoice, known = await lock_invoice(session, number)
    if (before := await _of_reason(session, invoice, reason)) is not None:
        return before
    if invoice.kind != "invoice":
        raise NotCreditable(f"{number} is no invoice.")
    organization_id, currency = invoice.organization_id, invoice.currency
    await net_out(session, await lock_balance(session, organization_id), currency, known)
    await note_payments(session, organization_id, currency)
    parts = _parts(invoice, await _credited(session, invoice), part)
    note = await _issue(session, invoice, parts, reason, settings)
    await _enter(session, invoice, note, parts)
    await net_out(session, await lock_balance(session, organization_id), currency, known)
    await note_payments(session, organization_id, currency)
    log.info("invoice.credited", number=number, credit_note=note.number, amount=note.total)
    return note


async def _of_reason(session: AsyncSession, invoice: Invoice, reason: str) -> Invoice | None:
    return await session.scalar(
        select(Invoice).where(Invoice.refers_to == invoice.id, Invoice.reason == reason)
    )


async def _credited(session: AsyncSession, invoice: Invoice) -> Mapping[int, Decimal]:
    """What was credited of each line."""
    query = (
        select(CreditedLine.line, func.sum(CreditedLine.amount))
        .where(CreditedLine.organization_id == invoice.organization_id, CreditedLine.invoice_id == invoice.id)
        .group_by(CreditedLine.line)
    )
    return {row.line: row[1] for row in await session.execute(query)}


def _parts(invoice: Invoice, credited: Mapping[int, Decimal], part: Part | None) -> dict[int, Decimal]:
    """What is taken back, by line. Raises NotCreditable for nothing, and for more than is left."""
    lefts = {
        place: Decimal(line.amount) - credited.get(place, Decimal(0))
        for place, line in enumerate(from_json(invoice.document).lines, start=1)
    }
    left = invoice.due - invoice.credited
    if part is None:
        parts = _spread(lefts, left)
    else:
        of_line = min(lefts.get(part.line, Decimal(0)), left)
        parts = {part.line: of_line if part.amount is None else part.amount}
        if parts[part.line] > of_line:
            raise NotCreditable(f"No more than {plain(of_line, invoice.currency)} is left of that line.")
    if not all(amount > 0 and is_payable(amount, invoice.currency) for amount in parts.values()) or not parts:
        raise NotCreditable(f"Nothing of that is left of {invoice.number}, or it is no amount.")
    return parts


def _spread(lefts: Mapping[int, Decimal], left: Decimal) -> dict[int, Decimal]:
    """All that is left, over the lines in their order: what the balance paid of them is not given back."""
    parts: dict[int, Decimal] = {}
    for place, of_line in lefts.items():
        if (amount := min(of_line, left)) > 0:
            parts[place] = amount
            left -= amount
    return parts


async def _issue(
    session: AsyncSession,
    invoice: Invoice,
    parts: Mapping[int, Decimal],
    reason: str,
    settings: Settings,
) -> Invoice:
    issuer = issuer_of(settings)
    moment = await present(session)
    number = await next_number(session, issuer=settings.issuer.code, kind="credit_note", year=moment.year)
    document = msgspec.structs.replace(
        _document(invoice, parts),
        number=number,
        reason=reason,
        issued_on=moment.date().isoformat(),
        issuer=issuer,
    )
    note = Invoice(
        id=new_id(),
        organization_id=invoice.organization_id,
        kind="credit_note",
        number=number,
        month=invoice.month,
        currency=invoice.currency,
        status="final",
        issued_at=moment,
        total=sum(parts.values(), Decimal(0)),
        refers_to=invoice.id,
        reason=reason,
        document=to_json(document),
    )
    session.add(note)
    await session.flush()
    session.add_all(_credited_lines(invoice, note, parts))
    return note


def _document(invoice: Invoice, parts: Mapping[int, Decimal]) -> InvoiceDocument:
    """The invoice with what is taken back in the place of its lines and sums."""
    issued, currency = from_json(invoice.document), invoice.currency
    total, nothing = plain(sum(parts.values(), Decimal(0)), currency), plain(Decimal(0), currency)
    return msgspec.structs.replace(
        issued,
        kind="credit_note",
        refers_to=invoice.number,
        due_on=None,
        lines=[_line(issued.lines[place - 1], amount, currency) for place, amount in parts.items()],
        exact_total=total,
        total=total,
        paid_from_balance=nothing,
        amount_due=nothing,
        payment=None,
    )


def _line(line: Line, amount: Decimal, currency: str) -> Line:
    """What is taken back of a line. All of it keeps its quantity; of a part, none can be told."""
    written = plain(amount, currency)
    if written == line.amount:
        return msgspec.structs.replace(line, exact_amount=written)
    return msgspec.structs.replace(
        line, quantity="1", unit="1", unit_price=written, exact_amount=written, amount=written
    )


def _credited_lines(invoice: Invoice, note: Invoice, parts: Mapping[int, Decimal]) -> Iterator[CreditedLine]:
    for place, amount in parts.items():
        yield CreditedLine(
            organization_id=invoice.organization_id,
            credit_note_id=note.id,
            invoice_id=invoice.id,
            line=place,
            amount=amount,
        )


async def _enter(
    session: AsyncSession, invoice: Invoice, note: Invoice, parts: Mapping[int, Decimal]
) -> None:
    """Revenue goes back: first to what is receivable of the invoice, then to prepaid money."""
    lines, owed = from_json(invoice.document).lines, invoice.outstanding
    for place, amount in parts.items():
        forgiven = min(owed, amount)
        owed -= forgiven
        for account, part in (("receivable", forgiven), ("prepaid", amount - forgiven)):
            if part > 0:
                transfer = Transfer(
                    kind="adjustment",
                    debit_account=lines[place - 1].account,
                    credit_account=account,
                    amount=part,
                    currency=invoice.currency,
                    reference=f"{note.number}, line {place}, {account}",
                    reason=f"credit note {note.number}",
                )
                await enter(session, invoice.organization_id, transfer)
    await add_to_balance(session, invoice.organization_id, amount=note.total, currency=invoice.currency)
    invoice.refunded += note.total - min(note.total, invoice.outstanding)
    invoice.credited += note.total
    await settle(session, invoice)
