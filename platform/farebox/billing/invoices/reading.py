"""Documents found and listed: an organization's, under its own transaction, or anybody's by the operator."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.documents.document import InvoiceDocument
from farebox.billing.invoices.errors import UnknownInvoice
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.drafting import document_of, draft
from farebox.billing.months import Month
from farebox.core.settings import Settings
from farebox.limits.balances import read_purse


async def find_invoice(session: AsyncSession, organization_id: UUID, invoice_id: UUID) -> Invoice:
    """Raises UnknownInvoice for one that is absent or another organization's."""
    query = select(Invoice).where(Invoice.organization_id == organization_id, Invoice.id == invoice_id)
    if (found := await session.scalar(query)) is None:
        raise UnknownInvoice
    return found


async def find_by_number(session: AsyncSession, number: str) -> Invoice:
    """Of any organization, for the operator. Raises UnknownInvoice."""
    found = await session.scalar(select(Invoice).where(Invoice.number == number))
    if found is None:
        raise UnknownInvoice
    return found


async def credit_notes_on(session: AsyncSession, invoice: Invoice) -> Sequence[Invoice]:
    """Oldest first."""
    query = (
        select(Invoice)
        .where(Invoice.organization_id == invoice.organization_id, Invoice.refers_to == invoice.id)
        .order_by(Invoice.id)
    )
    return list(await session.scalars(query))


async def some_invoices(
    session: AsyncSession, organization_id: UUID, *, limit: int, after: UUID | None = None
) -> Sequence[Invoice]:
    """The organization's documents, newest first; those made before the one called `after`."""
    query = select(Invoice).where(Invoice.organization_id == organization_id)
    if after is not None:
        # Ids are in the order of time; so one that is nobody's, or another's, is a moment as any other.
        query = query.where(Invoice.id < after)
    return list(await session.scalars(query.order_by(Invoice.id.desc()).limit(limit)))


async def all_invoices(
    session: AsyncSession, *, organization_id: UUID | None, status: str | None, at_most: int
) -> Sequence[Invoice]:
    """Of one organization or of all, newest first, for the operator."""
    query = select(Invoice)
    if organization_id is not None:
        query = query.where(Invoice.organization_id == organization_id)
    if status is not None:
        query = query.where(Invoice.status == status)
    return list(await session.scalars(query.order_by(Invoice.id.desc()).limit(at_most)))


async def preview(
    session: AsyncSession, organization_id: UUID, month: Month, settings: Settings
) -> InvoiceDocument:
    """What the month's document would say now. Raises NotFound for an organization that is not there."""
    purse = await read_purse(session, organization_id)
    currency = purse.currency or settings.currency
    drafted = await draft(session, organization_id, month, currency)
    return await document_of(session, organization_id, drafted, settings, credit_line=purse.credit_line)
