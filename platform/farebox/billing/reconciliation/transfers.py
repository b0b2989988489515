"""Usage against the ledger, by request and in sum; and the ledger within itself."""

from farebox.billing.ledger import WALLET
from farebox.billing.reconciliation.books import Books, Finding, compare

# What a transfer adds to revenue, or takes from it.
_REVENUE = """
    CASE WHEN starts_with(credit_account, 'revenue:') THEN amount ELSE 0 END
    - CASE WHEN starts_with(debit_account, 'revenue:') THEN amount ELSE 0 END
"""
_WITHIN = """
    ($1::uuid IS NULL OR organization_id = $1)
    AND ($2::timestamptz IS NULL OR {moment} >= $2) AND ($3::timestamptz IS NULL OR {moment} < $3)
"""
_HERE = _WITHIN.format(moment="created_at")
# A request's transfers have the moment of the event or the amendment that they pay.
_REQUESTS = f"""
WITH entry AS (
    SELECT organization_id, request_id, 1 AS event, amount AS used, 0::numeric AS paid
    FROM usage_event WHERE {_HERE}
    UNION ALL
    SELECT organization_id, request_id, 0, amount, 0 FROM usage_amendment WHERE {_HERE}
    UNION ALL
    SELECT organization_id, request_id, 0, 0, {_REVENUE} FROM ledger_transfer
    WHERE request_id IS NOT NULL AND {_HERE}
)
SELECT organization_id, request_id, sum(used) AS usage_events, sum(paid) AS ledger, sum(event) AS events,
    count(*) OVER () AS differences
FROM entry GROUP BY organization_id, request_id HAVING sum(used) <> sum(paid) OR sum(event) > 1
"""  # noqa: S608  of constants
_REVENUES = f"""
WITH used AS (
    SELECT organization_id, 'revenue:' || model_id AS account, currency, sum(amount) AS amount
    FROM usage_hour WHERE {_WITHIN.format(moment="hour")} GROUP BY 1, 2, 3
),
paid AS (
    SELECT organization_id,
        CASE WHEN starts_with(credit_account, 'revenue:') THEN credit_account ELSE debit_account END
            AS account,
        currency, sum({_REVENUE}) AS amount
    FROM ledger_transfer WHERE request_id IS NOT NULL AND {_HERE} GROUP BY 1, 2, 3
)
SELECT organization_id, account, currency, used.amount AS usage_hour, paid.amount AS ledger,
    count(*) OVER () AS differences
FROM used FULL JOIN paid USING (organization_id, account, currency)
WHERE coalesce(used.amount, 0) <> coalesce(paid.amount, 0)
"""  # noqa: S608  of constants
_BALANCES = """
WITH moved AS (
    SELECT organization_id, debit_account, credit_account, currency, sum(amount) AS amount
    FROM ledger_transfer WHERE $1::uuid IS NULL OR organization_id = $1 GROUP BY 1, 2, 3, 4
),
leg AS (
    SELECT organization_id, currency, credit_account AS account, amount FROM moved
    UNION ALL
    SELECT organization_id, currency, debit_account, -amount FROM moved
),
ledger AS (
    SELECT organization_id, currency, sum(amount) AS accounts,
        coalesce(sum(amount) FILTER (WHERE account = ANY ($2)), 0) AS balance,
        coalesce(sum(amount) FILTER (WHERE account = 'promotional'), 0) AS promotional
    FROM leg GROUP BY 1, 2
),
scope AS (
    SELECT organization_id, currency, balance, promotional FROM meter_scope
    WHERE kind = 'organization' AND ($1::uuid IS NULL OR organization_id = $1)
)
SELECT organization_id, ledger.accounts AS all_accounts,
    ROW(ledger.currency, ledger.balance, ledger.promotional)::text AS ledger,
    ROW(scope.currency, scope.balance, scope.promotional)::text AS meter_scope,
    count(*) OVER () AS differences
FROM ledger FULL JOIN scope USING (organization_id)
WHERE coalesce(ledger.accounts, 0) <> 0 OR coalesce(ledger.balance, 0) <> coalesce(scope.balance, 0)
    OR coalesce(ledger.promotional, 0) <> coalesce(scope.promotional, 0)
    OR ledger.currency IS NOT NULL AND ledger.currency IS DISTINCT FROM scope.currency
"""


async def requests(books: Books) -> Finding:
    """What each request came to = what the ledger has of it; and no request has two events."""
    span = (books.organization_id, books.start, books.end)
    return await compare(books, "requests", _REQUESTS, ("organization_id", "request_id"), *span)


async def revenues(books: Books) -> Finding:
    """What was used of each model = what the ledger has of it."""
    span = (books.organization_id, books.start, books.end)
    of = ("organization_id", "account", "currency")
    return await compare(books, "revenues", _REVENUES, of, *span)


async def balances(books: Books) -> Finding:
    """All accounts of an organization add up to zero, and its wallet's are the balance that admission has."""
    arguments = (books.organization_id, list(WALLET))
    return await compare(books, "balances", _BALANCES, ("organization_id",), *arguments)
