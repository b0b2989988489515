"""Costs split into line items: one per model and token class, from the prices frozen on the events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

LineItemDimension = Literal["project_id", "user_id", "api_key_id"]
_COLUMNS = {"project_id": "e.project_id", "user_id": "k.user_id", "api_key_id": "e.api_key_id"}

# An amount is the sum over the classes of tokens times price, a million tokens being the unit, unless
# settlement capped it at what was reserved or left: then it pays for the input first, for the output last.
# A credit is the same with all signs turned.
_QUERY = """
SELECT date_bin('1 day', e.created_at, timestamptz 'epoch') AS bucket,
    e.model_id || ', ' || item.class AS line_item, e.currency {groups},
    sum(item.tokens)::bigint AS quantity, sum(item.amount) AS amount
FROM (
    SELECT 1 AS sign, {columns} FROM usage_event UNION ALL
    SELECT CASE status WHEN 'undelivered' THEN -1 ELSE 1 END, {columns} FROM usage_amendment
) e
LEFT JOIN api_key k ON k.id = e.api_key_id
CROSS JOIN LATERAL (
    SELECT e.sign * least(
        e.sign * e.input_tokens * e.input_per_million * 0.000001, e.sign * e.amount
    ) AS input
) first
CROSS JOIN LATERAL (
    SELECT first.input, e.sign * least(
        e.sign * e.cached_input_tokens * e.cached_input_per_million * 0.000001,
        e.sign * (e.amount - first.input)
    ) AS cached
) part
CROSS JOIN LATERAL (VALUES
    ('input_tokens', e.input_tokens, part.input),
    ('cached_input_tokens', e.cached_input_tokens, part.cached),
    ('output_tokens', e.output_tokens, e.amount - part.input - part.cached)
) AS item (class, tokens, amount)
WHERE e.organization_id = :organization_id AND e.created_at >= :start AND e.created_at < :end
    AND item.tokens <> 0
    AND (cardinality(CAST(:project_ids AS uuid[])) = 0 OR e.project_id = ANY (:project_ids))
    AND (cardinality(CAST(:api_key_ids AS uuid[])) = 0 OR e.api_key_id = ANY (:api_key_ids))
    AND (cardinality(CAST(:line_items AS text[])) = 0
        OR e.model_id || ', ' || item.class = ANY (:line_items))
GROUP BY bucket, line_item, e.currency {groups}
ORDER BY bucket, line_item, e.currency {groups}
"""

_EVENT_COLUMNS = (
    "created_at, organization_id, project_id, api_key_id, model_id, currency, amount,"
    " input_tokens, cached_input_tokens, output_tokens, input_per_million, cached_input_per_million"
)


@dataclass(frozen=True, kw_only=True)
class LineItem:
    """What one class of tokens of one model cost in one UTC day; `quantity` counts tokens."""

    bucket: datetime
    line_item: str
    quantity: int
    amount: Decimal
    currency: str
    project_id: UUID | None = None
    user_id: UUID | None = None
    api_key_id: UUID | None = None


async def costs_by_line_item(
    session: AsyncSession,
    organization_id: UUID,
    *,
    start: datetime,
    end: datetime,
    group_by: Sequence[LineItemDimension] = (),
    project_ids: Sequence[UUID] = (),
    api_key_ids: Sequence[UUID] = (),
    line_items: Sequence[str] = (),
) -> list[LineItem]:
    """Costs by UTC day in [start, end), line item (`<model>, output_tokens`), currency and group."""
    groups = "".join(f", {_COLUMNS[name]}" for name in group_by)
    rows = await session.execute(
        text(_QUERY.format(groups=groups, columns=_EVENT_COLUMNS)),
        {
            "organization_id": organization_id,
            "start": start,
            "end": end,
            "project_ids": list(project_ids),
            "api_key_ids": list(api_key_ids),
            "line_items": list(line_items),
        },
    )
    return [LineItem(**row) for row in rows.mappings()]
