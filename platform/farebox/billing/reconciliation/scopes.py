"""What admission counts by, of keys, projects and organizations, against what it was counted from."""

from farebox.billing.reconciliation.books import Books, Finding, compare

_OF = ("organization_id", "kind", "scope_id")
_RESERVED = """
WITH held AS (
    SELECT scope.id, count(*) AS active, sum(amount) AS reserved FROM hold
    CROSS JOIN LATERAL (VALUES (api_key_id), (project_id), (organization_id)) AS scope (id)
    GROUP BY scope.id
)
SELECT s.organization_id, s.kind, s.id AS scope_id,
    ROW(coalesce(h.active, 0), coalesce(h.reserved, 0))::text AS holds,
    ROW(s.active, s.reserved)::text AS meter_scope, count(*) OVER () AS differences
FROM meter_scope s LEFT JOIN held h ON h.id = s.id
WHERE ($1::uuid IS NULL OR s.organization_id = $1)
    AND (s.active <> coalesce(h.active, 0) OR s.reserved <> coalesce(h.reserved, 0))
"""
# The sums have a credit in the hour in which it was given; a cap gets it back in the month of the bill.
_SPENT = """
WITH entry AS (
    SELECT organization_id, project_id, api_key_id, date_trunc('month', hour AT TIME ZONE 'UTC') AS month,
        amount
    FROM usage_hour
    UNION ALL
    SELECT a.organization_id, a.project_id, a.api_key_id, moved.month, moved.amount
    FROM usage_amendment a
    JOIN usage_event e ON e.request_id = a.request_id
    CROSS JOIN LATERAL (VALUES
        (date_trunc('month', a.created_at AT TIME ZONE 'UTC'), -a.amount),
        (date_trunc('month', e.created_at AT TIME ZONE 'UTC'), a.amount)
    ) AS moved (month, amount)
    WHERE a.status = 'undelivered'
        AND date_trunc('month', a.created_at, 'UTC') <> date_trunc('month', e.created_at, 'UTC')
),
used AS (
    SELECT scope.id, month, sum(amount) AS amount FROM entry
    CROSS JOIN LATERAL (VALUES (api_key_id), (project_id), (organization_id)) AS scope (id)
    WHERE $1::uuid IS NULL OR organization_id = $1
    GROUP BY scope.id, month
)
SELECT s.organization_id, s.kind, s.id AS scope_id, s.spend_month AS month,
    coalesce(u.amount, 0) AS usage_hour, s.spent AS meter_scope, count(*) OVER () AS differences
FROM meter_scope s LEFT JOIN used u ON u.id = s.id AND u.month = s.spend_month
WHERE ($1::uuid IS NULL OR s.organization_id = $1) AND s.spent <> coalesce(u.amount, 0)
"""


async def reservations(books: Books) -> Finding:
    """What a scope has reserved = its holds."""
    return await compare(books, "reservations", _RESERVED, _OF, books.organization_id)


async def spending(books: Books) -> Finding:
    """What a scope has spent in its month = the sums of that month."""
    return await compare(books, "spending", _SPENT, (*_OF, "month"), books.organization_id)
