"""What is owed of tiers, for whoever settles it. Under `Database.meter_transaction()`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.metering.models import TierUsage

_OWED = TierUsage.input_owed + TierUsage.cached_input_owed + TierUsage.output_owed


@dataclass(frozen=True)
class TierDebt:
    """What a customer owes of a month and a model; negative is owed to the customer."""

    organization_id: UUID
    model_id: str
    month: date
    owed: Decimal


async def organizations_in_debt(session: AsyncSession, *, before: date) -> Sequence[UUID]:
    """Of whom something is owed, either way, of months before that one."""
    query = select(TierUsage.organization_id).where(TierUsage.month < before, _OWED != 0).distinct()
    return list(await session.scalars(query))


async def debts_of(session: AsyncSession, organization_id: UUID, *, before: date) -> Sequence[TierDebt]:
    """The oldest first. The caller has the organization's scope locked, so that no request moves them."""
    query = (
        select(TierUsage.organization_id, TierUsage.model_id, TierUsage.month, _OWED.label("owed"))
        .where(TierUsage.organization_id == organization_id, TierUsage.month < before, _OWED != 0)
        .order_by(TierUsage.month, TierUsage.model_id)
    )
    return [TierDebt(**row) for row in (await session.execute(query)).mappings()]


async def clear_debt(session: AsyncSession, debt: TierDebt) -> None:
    """It is settled."""
    await session.execute(
        update(TierUsage)
        .where(
            TierUsage.organization_id == debt.organization_id,
            TierUsage.model_id == debt.model_id,
            TierUsage.month == debt.month,
        )
        .values(input_owed=0, cached_input_owed=0, output_owed=0)
    )
