"""What months at tiered prices came to, for whoever settles them. Under `Database.meter_transaction()`."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.metering.models import TierUsage


async def organizations_to_settle(session: AsyncSession, *, before: date) -> Sequence[UUID]:
    """Those with months before that one of which nobody has said that they are settled."""
    query = select(TierUsage.organization_id).where(TierUsage.month < before, TierUsage.settled_at.is_(None))
    return list(await session.scalars(query.distinct()))


async def months_to_settle(
    session: AsyncSession, organization_id: UUID, *, before: date
) -> Sequence[TierUsage]:
    """The oldest first. The caller has the organization's scope locked, so that no request moves them."""
    query = (
        select(TierUsage)
        .where(
            TierUsage.organization_id == organization_id,
            TierUsage.month < before,
            TierUsage.settled_at.is_(None),
        )
        .order_by(TierUsage.month, TierUsage.model_id, TierUsage.price_id)
    )
    return list(await session.scalars(query))


def mark_settled(usage: TierUsage, at: datetime) -> None:
    """Nobody looks at that month again; written with the session's next flush."""
    usage.settled_at = at
