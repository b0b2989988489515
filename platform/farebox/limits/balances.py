"""The prepaid balance on an organization's scope. All under `Database.meter_transaction()`."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
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


async def lock_balance(session: AsyncSession, organization_id: UUID) -> MeterScope:
    """The organization's scope, locked. Raises NotFound when there is none.

    Scope rows are locked before anything else, as admission and settlement do.
    """
    await lock_briefly(session)
    scope = await session.get(MeterScope, organization_id, with_for_update={"key_share": False})
    if scope is None or scope.kind != "organization":
        raise NotFound("No such organization.", code="not_found")
    return scope


async def add_to_balance(
    session: AsyncSession, organization_id: UUID, *, amount: Decimal, currency: str
) -> None:
    """Add to a balance that is locked; from now on it is kept in `currency`."""
    await session.execute(
        update(MeterScope)
        .where(MeterScope.id == organization_id)
        .values(balance=MeterScope.balance + amount, currency=currency)
    )


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
