"""The worker's part: months that have ended are closed for everybody, and payments find their invoices."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.funds import lock_purse
from farebox.billing.invoices.models import ClosedMonth, Invoice
from farebox.billing.invoices.months.closing import check_over, close_month
from farebox.billing.invoices.months.month import first_day, month_of_day, months_until, why_still_open
from farebox.billing.invoices.months.movements import currencies_moved
from farebox.billing.invoices.receivables import look_back, net_out, note_payments
from farebox.billing.months import Month, month_of
from farebox.core.database import Database, present
from farebox.core.errors import FareboxError
from farebox.core.ids import external
from farebox.core.metrics import UNCLOSED_DOCUMENTS
from farebox.core.settings import Settings
from farebox.tenants.organizations import list_organizations
from farebox.usage.monthly import currencies_used

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Closing:
    """An organization's month: closed under a number, or not closed for a reason."""

    organization_id: UUID
    month: Month
    currency: str
    number: str | None = None
    reason: str | None = None


async def keep_invoices(database: Database, settings: Settings) -> None:
    """The worker's sweep: close what has ended, and give payments to the invoices that they pay."""
    await close_ended_months(database, settings)
    async with database.meter_transaction() as session:
        owing = await _owing(session)
    for organization_id, currency in owing:
        try:
            await assign_payments(database, organization_id, currency)
        except Exception:
            # One customer holds up no other.
            log.exception("invoice.payments_not_noted", organization_id=external("org", organization_id))


async def assign_payments(database: Database, organization_id: UUID, currency: str) -> None:
    """Give what an organization has paid to its open invoices, in a transaction."""
    async with database.meter_transaction() as session:
        known = await look_back(session, organization_id, currency)
        purse = await lock_purse(session, organization_id, currency)
        await net_out(session, purse, currency, known)
        await note_payments(session, organization_id, currency)


async def close_ended_months(database: Database, settings: Settings) -> list[Closing]:
    """Close all months whose grace is over, for all organizations; tells what could not be closed.

    Whoever cannot be closed holds up nobody else. It is tried again with the next sweep, and told each time.
    """
    async with database.meter_transaction() as session:
        months = await months_to_close(session, settings)
    unclosed: list[Closing] = []
    for month in months:
        closings = await close_for_all(database, month, settings)
        failed = [each for each in closings if each.reason is not None]
        if not failed:
            async with database.meter_transaction() as session:
                done = insert(ClosedMonth).values(month=first_day(month))
                await session.execute(done.on_conflict_do_nothing())
        unclosed += failed
    UNCLOSED_DOCUMENTS.set(len(unclosed))
    return unclosed


async def months_to_close(session: AsyncSession, settings: Settings) -> list[Month]:
    """The months that can be closed and are not, oldest first: from that of the first organization on."""
    organizations = await list_organizations(session)
    if not organizations:
        return []
    first = month_of(min(each.created_at for each in organizations))
    closed = {month_of_day(each) for each in await session.scalars(select(ClosedMonth.month))}
    return [
        month
        for month in months_until(first, month_of(await present(session)))
        if month not in closed and await why_still_open(session, month, settings) is None
    ]


async def close_for_all(
    database: Database, month: Month, settings: Settings, *, only: UUID | None = None
) -> list[Closing]:
    """Close a month for all who did something in it and have no document, or for one of them.

    Each organization is a transaction of its own. Raises MonthOpen.
    """
    async with database.meter_transaction() as session:
        await check_over(session, month, settings)
        billed = await billed_in(session, month)
    return [
        await _close(database, organization_id, month, currency, settings)
        for organization_id, currency in billed
        if only in (None, organization_id)
    ]


async def _close(
    database: Database, organization_id: UUID, month: Month, currency: str, settings: Settings
) -> Closing:
    closing = partial(Closing, organization_id=organization_id, month=month, currency=currency)
    try:
        async with database.meter_transaction() as session:
            invoice = await close_month(session, organization_id, month, currency, settings)
    except Exception as error:
        # Whatever one organization's books hold, the others' months are closed.
        reason = error.message if isinstance(error, FareboxError) else f"{type(error).__name__}: {error}"
        log.error(
            "invoice.month_not_closed",
            organization_id=external("org", organization_id),
            month=str(month),
            currency=currency,
            reason=reason,
        )
        return closing(reason=reason)
    return closing(number=invoice.number)


async def billed_in(session: AsyncSession, month: Month) -> Sequence[tuple[UUID, str]]:
    """Who is to get a document, in the order of their ids: whoever used anything, or moved money."""
    ids = [each.id for each in await list_organizations(session)]
    used = await currencies_used(session, ids, start=month.start, end=month.end)
    have = select(Invoice.organization_id, Invoice.currency).where(
        Invoice.month == first_day(month), Invoice.kind != "credit_note"
    )
    there = {(row.organization_id, row.currency) for row in await session.execute(have)}
    return sorted((used | await currencies_moved(session, ids, month)) - there)


async def _owing(session: AsyncSession) -> Sequence[tuple[UUID, str]]:
    query = select(Invoice.organization_id, Invoice.currency).where(
        Invoice.status.in_(("open", "uncollectible"))
    )
    return [(row.organization_id, row.currency) for row in await session.execute(query.distinct())]
