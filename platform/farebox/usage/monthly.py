"""Usage by project, model and class of tokens over a span of hours, as an invoice lists it.

Read from the hourly sums: the price of each request is frozen in them as an amount.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.money import charge
from farebox.metering.models import UsageHour

UsageClass = Literal["input_tokens", "cached_input_tokens", "output_tokens", "items"]
_COSTS: dict[UsageClass, str] = {
    "input_tokens": "u.input_amount",
    "cached_input_tokens": "u.cached_input_amount",
    "output_tokens": "u.amount - u.input_amount - u.cached_input_amount - u.item_amount",
    "items": "u.item_amount",
}
_PRICE_DECIMALS = Decimal("0.000001")

# First summed, then split, as in `line_items`. What an hour's tokens of a class cost per million is their
# price, if one price held in it. Of a model that is sold by the token alone, items are no line.
_SUMS = ",\n".join(
    f"""sum(u.{name})::bigint AS {name}, sum({cost}) AS {name}_amount,
    min(({cost}) * 1000000 / nullif(u.{name}, 0)) AS {name}_lowest,
    max(({cost}) * 1000000 / nullif(u.{name}, 0)) AS {name}_highest"""
    for name, cost in _COSTS.items()
)
_CLASSES = ", ".join(
    f"({place}, '{name}', m.{name}, m.{name}_amount, m.{name}_lowest, m.{name}_highest)"
    for place, name in enumerate(_COSTS)
)
_QUERY = f"""
SELECT m.project_id, m.model_id AS model, c.usage_class, c.quantity, c.amount, c.lowest, c.highest
FROM (
    SELECT u.project_id, u.model_id, {_SUMS}
    FROM usage_hour u
    WHERE u.organization_id = :organization_id AND u.hour >= :start AND u.hour < :end
        AND u.currency = :currency
    GROUP BY u.project_id, u.model_id
) m
CROSS JOIN LATERAL (VALUES {_CLASSES}) AS c (place, usage_class, quantity, amount, lowest, highest)
WHERE c.amount <> 0 OR (c.quantity <> 0 AND c.usage_class <> 'items')
ORDER BY m.project_id, m.model_id, c.place
"""  # noqa: S608  of constants


@dataclass(frozen=True, kw_only=True)
class MonthlySum:
    """Tokens of one class, or items, of one model in one project, and what they cost, exactly.

    `unit_price` is per million: the one that every hour bears, at which the quantity costs the amount. None
    where there is no such price, because it changed, has tiers, or an answer was capped by what was left.
    """

    project_id: UUID
    model: str
    usage_class: UsageClass
    quantity: int
    amount: Decimal
    unit_price: Decimal | None


async def usage_by_class(
    session: AsyncSession, organization_id: UUID, *, start: datetime, end: datetime, currency: str
) -> list[MonthlySum]:
    """The usage of the hours in [start, end), by project, model and class; what was not used has no row."""
    values = {"organization_id": organization_id, "start": start, "end": end, "currency": currency}
    rows = (await session.execute(text(_QUERY), values)).mappings()
    return [_monthly_sum(**row) for row in rows]


async def amount_used(
    session: AsyncSession,
    organization_id: UUID,
    *,
    start: datetime | None,
    end: datetime | None,
    currency: str,
) -> Decimal:
    """What the usage of the hours in [start, end) cost; None is the beginning, or now."""
    query = select(func.coalesce(func.sum(UsageHour.amount), 0)).where(
        UsageHour.organization_id == organization_id, UsageHour.currency == currency
    )
    if start is not None:
        query = query.where(UsageHour.hour >= start)
    if end is not None:
        query = query.where(UsageHour.hour < end)
    return Decimal(await session.scalar(query) or 0)


async def currencies_used(
    session: AsyncSession, organization_ids: Sequence[UUID], *, start: datetime, end: datetime
) -> set[tuple[UUID, str]]:
    """Which of the organizations used anything in [start, end), and in what currencies."""
    query = (
        select(UsageHour.organization_id, UsageHour.currency)
        .where(UsageHour.organization_id.in_(organization_ids), UsageHour.hour >= start, UsageHour.hour < end)
        .distinct()
    )
    return {(row.organization_id, row.currency) for row in await session.execute(query)}


def _monthly_sum(
    *, quantity: int, amount: Decimal, lowest: Decimal | None, highest: Decimal | None, **group: Any
) -> MonthlySum:
    price = None
    if lowest is not None and lowest == highest:
        price = lowest.quantize(_PRICE_DECIMALS)
        if price < 0 or charge(quantity, price) != amount:
            price = None
    return MonthlySum(quantity=quantity, amount=amount, unit_price=price, **group)
