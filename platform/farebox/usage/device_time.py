"""How long requests kept devices busy, by day: from the events, since no sum has it.

One day at a time, in one aggregate that Postgres streams: what is held is a row for each organization and
model.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

# What was earned is read from the sums by hour, which hold amendments and credits in the hour they were
# booked. Device time has no amendments: what a swept request took is not known, and counts as nothing.
_DAY = """
WITH device AS (
    SELECT e.organization_id, e.model_id, e.currency, sum(e.device_seconds::float8) AS seconds
    FROM usage_event e
    WHERE e.created_at >= $1 AND e.created_at < $2 AND ($3::uuid IS NULL OR e.organization_id = $3)
    GROUP BY 1, 2, 3
),
earned AS (
    SELECT u.organization_id, u.model_id, u.currency, sum(u.requests)::bigint AS requests,
        sum(u.input_tokens + u.cached_input_tokens + u.output_tokens)::bigint AS tokens,
        sum(u.amount) AS revenue
    FROM usage_hour u
    WHERE u.hour >= $1 AND u.hour < $2 AND ($3::uuid IS NULL OR u.organization_id = $3)
    GROUP BY 1, 2, 3
)
SELECT organization_id, o.name AS organization, model_id AS model, currency,
    coalesce(requests, 0) AS requests, coalesce(tokens, 0) AS tokens,
    coalesce(revenue, 0) AS revenue, coalesce(seconds, 0) AS device_seconds
FROM earned FULL JOIN device USING (organization_id, model_id, currency)
LEFT JOIN organization o ON o.id = organization_id
ORDER BY o.name, organization_id, model_id, currency
"""
_AHEAD = 500
# For a day's events: longer than the driver waits for a page.
_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class DeviceDay:
    """One organization's requests to one model in a UTC day: what they earned, and device seconds."""

    organization_id: UUID
    organization: str | None
    model: str
    currency: str
    requests: int
    tokens: int
    revenue: Decimal
    device_seconds: float


async def device_day(
    connection: "asyncpg.Connection[Any]", start: datetime, end: datetime, organization_id: UUID | None
) -> AsyncIterator[DeviceDay]:
    """Of one organization or of all, over a connection as `farebox_meter`; [start, end) is a day."""
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(
            _DAY, start, end, organization_id, prefetch=_AHEAD, timeout=_SECONDS
        ):
            yield DeviceDay(**row)
