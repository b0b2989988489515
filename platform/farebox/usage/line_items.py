"""Costs split into line items: one per model and token class, from the hourly sums.

The sums hold what each class cost at the prices frozen on the events, so the items add up to the amounts.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.usage.reading import Rows, read_rows

LineItemDimension = Literal["project_id", "user_id", "api_key_id"]
_COLUMNS = {"project_id": "u.project_id", "user_id": "k.user_id", "api_key_id": "u.api_key_id"}

# First summed, then split: three rows for each group, and not for each hour. A class that was not used has no
# row; what was used and credited has zeros.
_QUERY = """
SELECT day.bucket, day.model_id || ', ' || item.class AS line_item, day.currency {names},
    item.tokens AS quantity, item.amount
FROM (
    SELECT date_bin('1 day', u.hour, timestamptz 'epoch') AS bucket, u.model_id, u.currency {groups},
        sum(u.input_tokens)::bigint AS input_tokens,
        sum(u.cached_input_tokens)::bigint AS cached_input_tokens,
        sum(u.output_tokens)::bigint AS output_tokens,
        sum(u.amount) AS amount,
        sum(u.input_amount) AS input_amount,
        sum(u.cached_input_amount) AS cached_input_amount,
        sum(u.items)::bigint AS items,
        sum(u.item_amount) AS item_amount
    FROM usage_hour u {join}
    WHERE u.organization_id = :organization_id AND u.hour >= :start AND u.hour < :end
        AND (cardinality(CAST(:project_ids AS uuid[])) = 0 OR u.project_id = ANY (:project_ids))
        AND (cardinality(CAST(:api_key_ids AS uuid[])) = 0 OR u.api_key_id = ANY (:api_key_ids))
    GROUP BY bucket, u.model_id, u.currency {groups}
) day
CROSS JOIN LATERAL (VALUES
    ('input_tokens', day.input_tokens, day.input_amount),
    ('cached_input_tokens', day.cached_input_tokens, day.cached_input_amount),
    -- Of a model that is sold by the token alone, items are no line.
    ('items', CASE WHEN day.item_amount <> 0 THEN day.items ELSE 0 END, day.item_amount),
    (
        'output_tokens', day.output_tokens,
        day.amount - day.input_amount - day.cached_input_amount - day.item_amount
    )
) AS item (class, tokens, amount)
WHERE (
        item.tokens <> 0 OR item.amount <> 0
        OR item.class <> 'items'
            AND (day.input_tokens, day.cached_input_tokens, day.output_tokens, day.item_amount) = (0, 0, 0, 0)
    )
    AND (cardinality(CAST(:line_items AS text[])) = 0
        OR day.model_id || ', ' || item.class = ANY (:line_items))
ORDER BY bucket, line_item, day.currency {names}
"""
_WITH_USERS = "LEFT JOIN api_key k ON k.id = u.api_key_id"


class LineItem(msgspec.Struct, frozen=True, kw_only=True):
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
    """What `read_line_items` reads, built at once: for a few hundred."""
    rows = await read_line_items(
        session,
        organization_id,
        start=start,
        end=end,
        group_by=group_by,
        project_ids=project_ids,
        api_key_ids=api_key_ids,
        line_items=line_items,
    )
    return rows.build()


async def read_line_items(
    session: AsyncSession,
    organization_id: UUID,
    *,
    start: datetime,
    end: datetime,
    group_by: Sequence[LineItemDimension] = (),
    project_ids: Sequence[UUID] = (),
    api_key_ids: Sequence[UUID] = (),
    line_items: Sequence[str] = (),
) -> Rows[LineItem]:
    """Costs by UTC day in [start, end), line item (`<model>, output_tokens`), currency and group.

    Raises ReportTooLarge.
    """
    query = _QUERY.format(
        groups="".join(f", {_COLUMNS[name]}" for name in group_by),
        names="".join(f", day.{name}" for name in group_by),
        join=_WITH_USERS if "user_id" in group_by else "",
    )
    values = {
        "organization_id": organization_id,
        "start": start,
        "end": end,
        "project_ids": list(project_ids),
        "api_key_ids": list(api_key_ids),
        "line_items": list(line_items),
    }
    return await read_rows(session, text(query), LineItem, values)
