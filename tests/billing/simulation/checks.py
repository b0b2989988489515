"""What must hold after every step, asked of Postgres for all customers at once."""

from decimal import Decimal
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from tests.billing.simulation.customers import Customer

_BOOKS = text("""
WITH mine AS (SELECT unnest(CAST(:ids AS uuid[])) AS id),
legs AS (
    SELECT t.organization_id, leg.account, leg.amount
    FROM ledger_transfer t
    CROSS JOIN LATERAL (
        VALUES (t.credit_account, t.amount), (t.debit_account, -t.amount)
    ) AS leg (account, amount)
    WHERE t.organization_id = ANY (:ids)
),
accounts AS (
    SELECT organization_id,
        sum(amount) AS total,
        coalesce(sum(amount) FILTER (WHERE account = 'prepaid'), 0) AS prepaid,
        coalesce(sum(amount) FILTER (WHERE account = 'promotional'), 0) AS promotional,
        coalesce(sum(amount) FILTER (WHERE account = 'receivable'), 0) AS receivable,
        coalesce(sum(amount) FILTER (WHERE account LIKE 'revenue:%'), 0) AS revenue
    FROM legs GROUP BY 1
),
billed AS (
    SELECT organization_id, sum(amount) AS amount, sum(tokens) AS tokens FROM (
        SELECT organization_id, amount, input_tokens + cached_input_tokens + output_tokens AS tokens
        FROM usage_event WHERE organization_id = ANY (:ids)
        UNION ALL
        SELECT organization_id, amount, input_tokens + cached_input_tokens + output_tokens
        FROM usage_amendment WHERE organization_id = ANY (:ids)
    ) event GROUP BY 1
),
hours AS (
    SELECT organization_id, sum(amount) AS amount,
        sum(input_tokens + cached_input_tokens + output_tokens) AS tokens
    FROM usage_hour WHERE organization_id = ANY (:ids) GROUP BY 1
),
held AS (
    SELECT organization_id, sum(amount) AS amount, count(*) AS number
    FROM hold WHERE organization_id = ANY (:ids) GROUP BY 1
)
SELECT s.id, s.balance, s.promotional AS scope_promotional, s.reserved, s.active, s.credit_line,
    coalesce(a.total, 0) AS total, coalesce(a.prepaid, 0) AS prepaid,
    coalesce(a.promotional, 0) AS promotional,
    coalesce(a.receivable, 0) AS receivable, coalesce(a.revenue, 0) AS revenue,
    coalesce(b.amount, 0) AS billed, coalesce(b.tokens, 0) AS tokens,
    coalesce(h.amount, 0) AS summed, coalesce(h.tokens, 0) AS summed_tokens,
    coalesce(o.amount, 0) AS held, coalesce(o.number, 0) AS holds
FROM mine
JOIN meter_scope s ON s.id = mine.id
LEFT JOIN accounts a ON a.organization_id = mine.id
LEFT JOIN billed b ON b.organization_id = mine.id
LEFT JOIN hours h ON h.organization_id = mine.id
LEFT JOIN held o ON o.organization_id = mine.id
""")


async def check_books(session: AsyncSession, customers: list[Customer]) -> None:
    """Raises AssertionError, with the customer and the number that is wrong."""
    rows = await session.execute(_BOOKS, {"ids": [each.organization_id for each in customers]})
    found = {row.id: row._asdict() for row in rows}
    for customer in customers:
        wrong = {
            name: (told, expected)
            for name, (told, expected) in _comparisons(found[customer.organization_id], customer).items()
            if told != expected
        }
        assert not wrong, (customer.name, wrong)


def _comparisons(row: dict[str, Any], customer: Customer) -> dict[str, tuple[Decimal | int, Decimal | int]]:
    purse = customer.purse
    return {
        "assets and liabilities": (row["total"], 0),
        "the balance and its accounts": (
            row["balance"], row["prepaid"] + row["promotional"] + row["receivable"],
        ),
        "promotional credit": (row["scope_promotional"], row["promotional"]),
        "events and revenue": (row["billed"] + purse.fees - purse.repaid, row["revenue"]),
        "events and hours": (row["billed"], row["summed"]),
        "tokens and hours": (row["tokens"], row["summed_tokens"]),
        "reserved and holds": (row["reserved"], row["held"]),
        "active and holds": (row["active"], row["holds"]),
        "no less than the line": (max(-row["balance"] - row["credit_line"], 0), 0),
        "the reference's promotional credit": (row["promotional"], purse.promotional),
        "the reference's paid money": (row["prepaid"] + row["receivable"], purse.prepaid - purse.receivable),
        "the reference's revenue": (row["revenue"], purse.revenue + purse.fees - purse.repaid),
    }  # fmt: skip
