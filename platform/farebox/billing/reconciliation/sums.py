"""Usage events and amendments, against the sums that settlement keeps of them."""

from farebox.billing.reconciliation.books import Books, Finding, compare

_GROUP = "organization_id, hour, project_id, api_key_id, model_id, currency"
_SUMS = "requests, input_tokens, cached_input_tokens, output_tokens, amount"
_OF = ("organization_id", "hour", "project_id", "api_key_id", "model_id", "currency")
_SUMMED = """
    sum(requests) AS requests, sum(input_tokens) AS input_tokens,
    sum(cached_input_tokens) AS cached_input_tokens, sum(output_tokens) AS output_tokens,
    sum(amount) AS amount
"""
_WITHIN = """
    ($1::uuid IS NULL OR organization_id = $1)
    AND ($2::timestamptz IS NULL OR {moment} >= $2) AND ($3::timestamptz IS NULL OR {moment} < $3)
"""
_ENTRIES = """
SELECT organization_id, date_trunc('hour', created_at, 'UTC') AS hour, project_id, api_key_id, model_id,
    currency, 1 AS requests, input_tokens, cached_input_tokens, output_tokens, amount
FROM usage_event WHERE {within}
UNION ALL
SELECT organization_id, date_trunc('hour', created_at, 'UTC'), project_id, api_key_id, model_id,
    currency, 0, input_tokens, cached_input_tokens, output_tokens, amount
FROM usage_amendment WHERE {within}
"""
_MINUTES = """
SELECT organization_id, date_trunc('hour', minute, 'UTC') AS hour, project_id, api_key_id, model_id,
    currency, {sums}
FROM usage_minute WHERE {within}
"""
_ROW = "ROW({0}.requests, {0}.input_tokens, {0}.cached_input_tokens, {0}.output_tokens, {0}.amount)"
_COMPARED = """
WITH here AS (SELECT {group}, {summed} FROM ({entries}) AS entry GROUP BY {group}),
there AS (SELECT {group}, {sums} FROM usage_hour WHERE {within_hours})
SELECT {group}, {here}::text AS {name}, {there}::text AS usage_hour, count(*) OVER () AS differences
FROM here FULL JOIN there USING ({group})
WHERE {here} IS DISTINCT FROM {there}
ORDER BY hour
"""


def _compared(name: str, entries: str) -> str:
    return _COMPARED.format(
        name=name,
        entries=entries,
        group=_GROUP,
        summed=_SUMMED,
        sums=_SUMS,
        here=_ROW.format("here"),
        there=_ROW.format("there"),
        within_hours=_WITHIN.format(moment="hour"),
    )


_BY_HOUR = _compared("usage_events", _ENTRIES.format(within=_WITHIN.format(moment="created_at")))
_BY_MINUTE = _compared("usage_minutes", _MINUTES.format(sums=_SUMS, within=_WITHIN.format(moment="minute")))


async def hours(books: Books) -> Finding:
    """Events and amendments of each hour, project, key and model = `usage_hour`."""
    span = (books.organization_id, books.start, books.end)
    return await compare(books, "hours", _BY_HOUR, _OF, *span)


async def minutes(books: Books) -> Finding:
    """The minutes of an hour = `usage_hour`."""
    span = (books.organization_id, books.start, books.end)
    return await compare(books, "minutes", _BY_MINUTE, _OF, *span)
