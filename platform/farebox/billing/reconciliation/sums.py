"""Usage events and amendments, against the sums that settlement keeps of them."""

from farebox.billing.reconciliation.books import Books, Finding, compare

_GROUP = "organization_id, hour, project_id, api_key_id, model_id, currency"
_OF = ("organization_id", "hour", "project_id", "api_key_id", "model_id", "currency")
# What minutes have of it, and what hours have beside that.
_COUNTS = ("requests", "input_tokens", "cached_input_tokens", "output_tokens", "amount")
_PARTS = (*_COUNTS, "input_amount", "cached_input_amount", "items", "item_amount")
_WITHIN = """
    ($1::uuid IS NULL OR organization_id = $1)
    AND ($2::timestamptz IS NULL OR {moment} >= $2) AND ($3::timestamptz IS NULL OR {moment} < $3)
"""
_ENTRIES = """
SELECT organization_id, date_trunc('hour', created_at, 'UTC') AS hour, project_id, api_key_id, model_id,
    currency, 1 AS requests, input_tokens, cached_input_tokens, output_tokens, amount, input_amount,
    cached_input_amount, items, item_amount
FROM usage_event WHERE {within}
UNION ALL
SELECT organization_id, date_trunc('hour', created_at, 'UTC'), project_id, api_key_id, model_id,
    currency, 0, input_tokens, cached_input_tokens, output_tokens, amount, input_amount,
    cached_input_amount, items, item_amount
FROM usage_amendment WHERE {within}
"""
_MINUTES = """
SELECT organization_id, date_trunc('hour', minute, 'UTC') AS hour, project_id, api_key_id, model_id,
    currency, requests, input_tokens, cached_input_tokens, output_tokens, amount
FROM usage_minute WHERE {within}
"""
_COMPARED = """
WITH here AS (SELECT {group}, {summed} FROM ({entries}) AS entry GROUP BY {group}),
there AS (SELECT {group}, {columns} FROM usage_hour WHERE {within_hours})
SELECT {group}, {here}::text AS {name}, {there}::text AS usage_hour, count(*) OVER () AS differences
FROM here FULL JOIN there USING ({group})
WHERE {here} IS DISTINCT FROM {there}
ORDER BY hour
"""


def _compared(name: str, entries: str, columns: tuple[str, ...]) -> str:
    return _COMPARED.format(
        name=name,
        entries=entries,
        group=_GROUP,
        columns=", ".join(columns),
        summed=", ".join(f"sum({each}) AS {each}" for each in columns),
        here=f"ROW({', '.join(f'here.{each}' for each in columns)})",
        there=f"ROW({', '.join(f'there.{each}' for each in columns)})",
        within_hours=_WITHIN.format(moment="hour"),
    )


_BY_HOUR = _compared("usage_events", _ENTRIES.format(within=_WITHIN.format(moment="created_at")), _PARTS)
_BY_MINUTE = _compared("usage_minutes", _MINUTES.format(within=_WITHIN.format(moment="minute")), _COUNTS)


async def hours(books: Books) -> Finding:
    """Events and amendments of each hour, project, key and model = `usage_hour`."""
    span = (books.organization_id, books.start, books.end)
    return await compare(books, "hours", _BY_HOUR, _OF, *span)


async def minutes(books: Books) -> Finding:
    """The minutes of an hour = `usage_hour`."""
    span = (books.organization_id, books.start, books.end)
    return await compare(books, "minutes", _BY_MINUTE, _OF, *span)
