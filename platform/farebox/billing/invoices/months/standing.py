"""What an organization had and owed at a moment, by its ledger: counted from its last closed month on."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.month import first_day, month_of_day
from farebox.billing.invoices.months.movements import Span, drawn_by_requests, moved
from farebox.billing.months import Month
from farebox.usage.monthly import amount_used


@dataclass(frozen=True)
class Standing:
    """`balance` is promotional credit and prepaid money less `receivable`, what was drawn and is not paid."""

    balance: Decimal
    receivable: Decimal


async def standing(session: AsyncSession, organization_id: UUID, currency: str, month: Month) -> Standing:
    """The standing at the begin of a month."""
    before, since = await last_closed(session, organization_id, currency, before=month)
    span = (since, month.start)
    used = await amount_used(session, organization_id, start=since, end=month.start, currency=currency)
    changes = await moved(session, organization_id, currency, span)
    balance = before.balance + sum((each.change for each in changes), Decimal(0)) - used
    return Standing(balance, before.receivable + await drawn(session, organization_id, currency, span))


async def drawn(session: AsyncSession, organization_id: UUID, currency: str, span: Span) -> Decimal:
    """By how much what is receivable grew in a span."""
    by_requests = await drawn_by_requests(session, organization_id, currency, span)
    changes = await moved(session, organization_id, currency, span)
    return by_requests + sum((each.drawn for each in changes), Decimal(0))


async def last_closed(
    session: AsyncSession, organization_id: UUID, currency: str, *, before: Month | None = None
) -> tuple[Standing, datetime | None]:
    """The standing at the end of the last month that is closed, and that end; None where there is none."""
    query = (
        select(Invoice)
        .where(
            Invoice.organization_id == organization_id,
            Invoice.currency == currency,
            Invoice.closing_balance.is_not(None),
        )
        .order_by(Invoice.month.desc())
        .limit(1)
    )
    if before is not None:
        query = query.where(Invoice.month < first_day(before))
    last = await session.scalar(query)
    if last is None or last.closing_balance is None or last.closing_receivable is None:
        return Standing(Decimal(0), Decimal(0)), None
    return Standing(last.closing_balance, last.closing_receivable), month_of_day(last.month).end
