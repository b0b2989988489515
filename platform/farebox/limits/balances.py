"""The prepaid balance on an organization's scope. All under `Database.meter_transaction()`."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import lock_briefly
from farebox.core.errors import NotFound
from farebox.limits.models import MeterScope


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left; its currency is None until the first top-up."""

    amount: Decimal
    currency: str | None


@dataclass(frozen=True, slots=True)
class Purse:
    """An organization's money: what its requests may spend and reserve.

    `balance` is promotional credit and what was paid in, less what was used on the credit line. `currency` is
    None until the first amount.
    """

    organization_id: UUID
    balance: Decimal
    promotional: Decimal
    credit_line: Decimal
    reserved: Decimal
    currency: str | None

    @property
    def prepaid(self) -> Decimal:
        """What was paid in and is not used."""
        return max(self.balance - self.promotional, Decimal(0))

    @property
    def receivable(self) -> Decimal:
        """What was used on the credit line and is not paid."""
        return max(self.promotional - self.balance, Decimal(0))

    @property
    def available(self) -> Decimal:
        """What may go without anybody's requests under way, or the line, falling short."""
        return self.balance + self.credit_line - self.reserved


async def lock_balance(session: AsyncSession, organization_id: UUID) -> Purse:
    """The organization's money, locked. Raises NotFound when there is none.

    Scope rows are locked before anything else, as admission and settlement do.
    """
    await lock_briefly(session)
    query = (
        select(MeterScope)
        .where(MeterScope.id == organization_id, MeterScope.kind == "organization")
        .with_for_update(key_share=False)
        .execution_options(populate_existing=True)
    )
    return _purse(organization_id, await session.scalar(query))


async def read_purse(session: AsyncSession, organization_id: UUID) -> Purse:
    """The organization's money as it is now, not locked; under its own transaction or the meter's.

    Raises NotFound when there is none.
    """
    query = select(MeterScope).where(MeterScope.id == organization_id, MeterScope.kind == "organization")
    return _purse(organization_id, await session.scalar(query))


def _purse(organization_id: UUID, scope: MeterScope | None) -> Purse:
    if scope is None:
        raise NotFound("No such organization.", code="not_found")
    return Purse(
        organization_id,
        scope.balance or Decimal(0),
        scope.promotional,
        scope.credit_line,
        scope.reserved,
        scope.currency,
    )


async def add_to_balance(
    session: AsyncSession, organization_id: UUID, *, amount: Decimal, currency: str
) -> None:
    """Add to a balance that is locked; from now on it is kept in `currency`."""
    await _change(session, organization_id, balance=MeterScope.balance + amount, currency=currency)


async def add_promotional_credit(
    session: AsyncSession, organization_id: UUID, *, amount: Decimal, currency: str
) -> None:
    """Add to the balance and to the promotional part of it; both are locked."""
    await _change(
        session,
        organization_id,
        balance=MeterScope.balance + amount,
        promotional=MeterScope.promotional + amount,
        currency=currency,
    )


async def set_credit_line(
    session: AsyncSession, organization_id: UUID, *, amount: Decimal, currency: str
) -> None:
    """How far below zero the balance may fall."""
    await _change(session, organization_id, credit_line=amount, currency=currency)


async def with_promotional_credit(session: AsyncSession) -> set[UUID]:
    """The organizations that have any."""
    query = select(MeterScope.id).where(MeterScope.kind == "organization", MeterScope.promotional > 0)
    return set(await session.scalars(query))


async def plan_of(session: AsyncSession, organization_id: UUID) -> UUID | None:
    """The plan whose prices apply to an organization."""
    return await session.scalar(select(MeterScope.plan_id).where(MeterScope.id == organization_id))


async def set_plan(session: AsyncSession, organization_id: UUID, plan_id: UUID | None) -> None:
    """Whose prices apply from the next admission on."""
    await _change(session, organization_id, plan_id=plan_id)


async def _change(session: AsyncSession, organization_id: UUID, **values: Any) -> None:
    await session.execute(update(MeterScope).where(MeterScope.id == organization_id).values(**values))


async def balances(session: AsyncSession) -> dict[UUID, Balance]:
    """The balances of all organizations."""
    query = select(MeterScope.id, MeterScope.balance, MeterScope.currency).where(
        MeterScope.kind == "organization"
    )
    return {row.id: Balance(row.balance, row.currency) for row in await session.execute(query)}


async def lock_scopes(session: AsyncSession, organization_ids: Sequence[UUID]) -> None:
    """Lock all scopes of the organizations, in the order in which admission does: who pays or calls waits."""
    query = (
        select(MeterScope.id)
        .where(MeterScope.organization_id.in_(organization_ids))
        .order_by(MeterScope.id)
        .with_for_update()
    )
    await session.execute(query)


async def balances_of(session: AsyncSession, organization_ids: Sequence[UUID]) -> dict[UUID, Balance]:
    """The balances of some organizations."""
    query = select(MeterScope.id, MeterScope.balance, MeterScope.currency).where(
        MeterScope.kind == "organization", MeterScope.id.in_(organization_ids)
    )
    return {row.id: Balance(row.balance or Decimal(0), row.currency) for row in await session.execute(query)}
