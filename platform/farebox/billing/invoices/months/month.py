"""Days of a month, and whether anything can still be booked into it."""

from collections.abc import Iterator
from datetime import date, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.errors import InvalidMonth
from farebox.billing.months import Month, read_month
from farebox.core.database import present
from farebox.core.settings import Settings


def parse_month(written: str) -> Month:
    """`2026-11`. Raises InvalidMonth."""
    try:
        month = read_month(written)
    except ValueError:
        raise InvalidMonth(written) from None
    if not date.min.year < month.year < date.max.year:
        raise InvalidMonth(written)
    return month


def first_day(month: Month) -> date:
    return month.start.date()


def last_day(month: Month) -> date:
    return month.end.date() - timedelta(days=1)


def month_of_day(day: date) -> Month:
    return Month(day.year, day.month)


def months_until(first: Month, last: Month) -> Iterator[Month]:
    """From one month to another, both included."""
    while first <= last:
        yield first
        first = first.next


async def why_still_open(session: AsyncSession, month: Month, settings: Settings) -> str | None:
    """Why something may still be booked into a month; None when nothing can be.

    Usage is booked in the month in which it is settled, by Postgres's clock, in a statement of three
    seconds at most. The grace is for those that are under way, and for clocks of servers that differ.
    Whatever else has to be true of a month's hours before it is closed is to be asked here.
    """
    now, grace = await present(session), timedelta(seconds=settings.invoice_grace_seconds)
    if now < month.end:
        return f"{month} has not ended"
    if now < month.end + grace:
        return f"{month} ended less than {grace} ago, so a settlement may still be under way"
    return None
