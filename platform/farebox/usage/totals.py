"""What all organizations used, for the operator: the one question here that spans tenants."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.metering.models import UsageHour
from farebox.tenants.models import Organization


@dataclass(frozen=True, kw_only=True)
class UsageTotal:
    """Sums of one organization's requests to one model; token classes are disjoint, `items` beside them."""

    organization_id: UUID
    organization: str
    model: str
    currency: str
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    items: int
    amount: Decimal


async def usage_by_organization(
    session: AsyncSession, organization_id: UUID | None, *, start: datetime, end: datetime
) -> list[UsageTotal]:
    """Of one organization or of all, by name and model, under `Database.meter_transaction()`.

    By the hour: those that begin at `start` or later, and before `end`.
    """
    counts = (
        cast(func.sum(column), BigInteger).label(column.key)
        for column in (
            UsageHour.requests,
            UsageHour.input_tokens,
            UsageHour.cached_input_tokens,
            UsageHour.output_tokens,
            UsageHour.items,
        )
    )
    groups = (
        UsageHour.organization_id,
        Organization.name.label("organization"),
        UsageHour.model_id.label("model"),
        UsageHour.currency,
    )
    query = (
        select(*groups, *counts, func.sum(UsageHour.amount).label("amount"))
        .join(Organization, Organization.id == UsageHour.organization_id)
        .where(UsageHour.hour >= start, UsageHour.hour < end)
        .group_by(*groups)
        .order_by(Organization.name, UsageHour.model_id)
    )
    if organization_id is not None:
        query = query.where(UsageHour.organization_id == organization_id)
    return [UsageTotal(**row) for row in (await session.execute(query)).mappings()]
