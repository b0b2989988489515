"""A month of an organization's ledger, as invoices and statements tell it.

Requests write a row each, so a month may have millions. What they came to is read from the hourly sums; of
their rows only those that were drawn on a credit line are added up, a day at a time. All else are few rows.

Sessions may be the organization's own or the meter's.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.ledger import WALLET
from farebox.billing.models import LedgerTransfer as Transfer
from farebox.billing.months import Month
from farebox.core.clock import utc_now

_RECEIVABLE = "receivable"
DAY = timedelta(days=1)
PARTS = 31

# From a moment, or the beginning, to the moment before another, or until now.
Span = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class Moved:
    """Transfers of one kind between two accounts, added up; none of them is of a request."""

    kind: str
    debit_account: str
    credit_account: str
    amount: Decimal

    @property
    def change(self) -> Decimal:
        """What they did to the balance."""
        came, went = self.credit_account in WALLET, self.debit_account in WALLET
        return self.amount * (int(came) - int(went))

    @property
    def drawn(self) -> Decimal:
        """What they added to what is receivable."""
        return self.amount * (
            int(self.debit_account == _RECEIVABLE) - int(self.credit_account == _RECEIVABLE)
        )


@dataclass(frozen=True, kw_only=True)
class Fee:
    """A plan's fee, or what a month's tiers still came to; with the sign turned, one that was given back.

    `account` is the revenue of the plan or of the model; `drawn` is the part drawn on the credit line.
    """

    at: datetime
    account: str
    amount: Decimal
    drawn: Decimal

    @property
    def description(self) -> str:
        earned = self.account.removeprefix("revenue:")
        return earned if earned.endswith(" plan") else f"{earned}, tiers"

    def plus(self, other: "Fee") -> "Fee":
        return replace(self, amount=self.amount + other.amount, drawn=self.drawn + other.drawn)


async def moved(session: AsyncSession, organization_id: UUID, currency: str, span: Span) -> list[Moved]:
    """What moved in a span, but for what requests moved."""
    columns = (Transfer.kind, Transfer.debit_account, Transfer.credit_account)
    query = (
        select(*columns, func.sum(Transfer.amount))
        .where(*_other(organization_id, currency), *_within(span))
        .group_by(*columns)
    )
    return [Moved(*row) for row in await session.execute(query)]


async def fees(session: AsyncSession, organization_id: UUID, currency: str, month: Month) -> list[Fee]:
    """The plan's fees of a month, oldest first; one that two purses paid is one."""
    query = (
        select(Transfer)
        .where(
            *_other(organization_id, currency),
            Transfer.kind == "fee",
            *_within((month.start, month.end)),
        )
        .order_by(Transfer.created_at, Transfer.id)
    )
    charged: dict[tuple[datetime, str], Fee] = {}
    for part in map(_fee, await session.scalars(query)):
        # What one transaction has drawn has one time.
        known = charged.get((part.at, part.account))
        charged[part.at, part.account] = part if known is None else known.plus(part)
    return list(charged.values())


async def drawn_by_requests(
    session: AsyncSession, organization_id: UUID, currency: str, span: Span
) -> Decimal:
    """What requests drew on the credit line in a span, less what was given back of them."""
    amount = case((Transfer.debit_account == _RECEIVABLE, Transfer.amount), else_=-Transfer.amount)
    total = Decimal(0)
    for part in _parts(span):
        query = select(func.coalesce(func.sum(amount), 0)).where(
            Transfer.organization_id == organization_id,
            Transfer.request_id.is_not(None),
            or_(Transfer.debit_account == _RECEIVABLE, Transfer.credit_account == _RECEIVABLE),
            Transfer.currency == currency,
            *_within(part),
        )
        total += Decimal(await session.scalar(query) or 0)
    return total


async def currencies_moved(
    session: AsyncSession, organization_ids: Sequence[UUID], month: Month
) -> set[tuple[UUID, str]]:
    """Which of the organizations moved money in a month other than by requests, and in what currencies."""
    query = select(Transfer.organization_id, Transfer.currency).where(
        Transfer.organization_id.in_(organization_ids),
        Transfer.request_id.is_(None),
        *_within((month.start, month.end)),
    )
    return {(row.organization_id, row.currency) for row in await session.execute(query.distinct())}


async def paid_off(session: AsyncSession, organization_id: UUID, currency: str) -> Decimal:
    """What payments have settled of what was drawn on the credit line, ever.

    What a dispute or a refund has moved onto the line is no usage, and no invoice asks for it: so what pays
    that off pays no invoice.
    """
    columns = (Transfer.kind, Transfer.debit_account, Transfer.credit_account)
    query = (
        select(*columns, func.sum(Transfer.amount))
        .where(*_other(organization_id, currency), Transfer.kind.in_(("application", "dispute", "refund")))
        .group_by(*columns)
    )
    return sum((-Moved(*row).drawn for row in await session.execute(query)), Decimal(0))


def change_by(movements: Iterable[Moved], *kinds: str) -> Decimal:
    """What the transfers of these kinds did to the balance."""
    return sum((each.change for each in movements if each.kind in kinds), Decimal(0))


def _within(span: Span) -> list[ColumnElement[bool]]:
    start, end = span
    after = [] if start is None else [Transfer.created_at >= start]
    return after if end is None else [*after, Transfer.created_at < end]


def _parts(span: Span) -> Iterator[Span]:
    """A span in parts that a statement adds up in time; one that has no begin is not parted."""
    start, end = span
    until = end or utc_now()
    if start is not None:
        step = max(DAY, (until - start) / PARTS)
        while start + step < until:
            yield start, start + step
            start += step
    yield start, end


def _other(organization_id: UUID, currency: str) -> tuple[ColumnElement[bool], ...]:
    return (
        and_(Transfer.organization_id == organization_id, Transfer.request_id.is_(None)),
        Transfer.currency == currency,
    )


def _fee(transfer: Transfer) -> Fee:
    taken = transfer.debit_account in WALLET
    amount = transfer.amount if taken else -transfer.amount
    purse, account = transfer.debit_account, transfer.credit_account
    if not taken:
        purse, account = account, purse
    drawn = amount if purse == _RECEIVABLE else Decimal(0)
    return Fee(at=transfer.created_at, account=account, amount=amount, drawn=drawn)
