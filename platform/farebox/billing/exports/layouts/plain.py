"""Farebox's own tables: usage, cost (usage, and whatever else moved money), and the journal."""

from farebox.billing.exports.layouts.layout import Column, Layout
from farebox.billing.exports.layouts.rows import EARNED, IN_PERIOD, OF_REQUESTS, OTHERS, USAGE, USAGE_ORDER

_OF_USAGE = (
    Column("hour", "starts", "moment"),
    Column("organization_id", "'org_' || replace(organization_id::text, '-', '')"),
    Column("organization", "organization"),
    Column("project_id", "'proj_' || replace(project_id::text, '-', '')"),
    Column("project", "project"),
    Column("model", "model"),
    Column("token_class", "token_class"),
    Column("quantity", "quantity", "count"),
)
_AMOUNT = Column("amount", "amount", "money")
_CURRENCY = Column("currency", "currency")
_CREDIT, _DEBIT = (EARNED.format(account=f"t.{side}_account") for side in ("credit", "debit"))
# What requests came to in the ledger, less what came back.
_EARNED = f"sum(CASE WHEN {_CREDIT} THEN t.amount WHEN {_DEBIT} THEN -t.amount ELSE 0 END)"

USAGE_LAYOUT = Layout(
    measures=(_AMOUNT,),
    keys=(_CURRENCY,),
    columns=_OF_USAGE,
    sections=(f"SELECT * FROM ({USAGE}) r ORDER BY {USAGE_ORDER}",),  # noqa: S608
    expected=f"SELECT t.currency, {_EARNED} FROM ledger_transfer t"  # noqa: S608
    f" WHERE {OF_REQUESTS} AND {IN_PERIOD} GROUP BY t.currency",
)

# What the payment processor keeps is the operator's cost and nobody else's: it is in the journal alone.
_LEDGER = f"""
    SELECT
        r.*, NULL::uuid AS project_id, NULL::text AS project, NULL::text AS model, NULL::text AS token_class,
        NULL::bigint AS quantity
    FROM ({OTHERS}) r WHERE r.kind <> 'processor_fee' ORDER BY organization_id, created_at, id
"""  # noqa: S608
COST_LAYOUT = Layout(
    measures=(_AMOUNT,),
    keys=(_CURRENCY, Column("kind", "kind")),
    columns=(
        *_OF_USAGE,
        Column("debit_account", "debited"),
        Column("credit_account", "credited"),
        Column("reference", "reference"),
    ),
    sections=(
        "SELECT r.*, 'usage' AS kind, NULL AS debited, NULL AS credited, NULL AS reference"  # noqa: S608
        f" FROM ({USAGE}) r ORDER BY {USAGE_ORDER}",
        _LEDGER,
    ),
    expected=f"SELECT t.currency, 'usage', {_EARNED} FROM ledger_transfer t"  # noqa: S608
    f" WHERE {OF_REQUESTS} AND {IN_PERIOD} GROUP BY t.currency"
    " UNION ALL SELECT t.currency, t.kind, sum(t.amount) FROM ledger_transfer t"
    f" WHERE NOT {OF_REQUESTS} AND {IN_PERIOD} AND t.kind <> 'processor_fee' GROUP BY t.currency, t.kind",
)

# A line for each day, account and side: what went in is kept apart from what went out.
JOURNAL_LINES = f"""
    SELECT
        (t.created_at AT TIME ZONE 'UTC')::date AS day, t.currency, leg.account,
        {{text:leg.account}} AS account_name, sum(leg.debit) AS debit, sum(leg.credit) AS credit
    FROM ledger_transfer t
    CROSS JOIN LATERAL (VALUES
        (t.debit_account, t.amount, 0), (t.credit_account, 0, t.amount)
    ) AS leg (account, debit, credit)
    WHERE {IN_PERIOD}
    GROUP BY 1, 2, 3, leg.debit = 0
    ORDER BY 1, 2, 3, leg.debit = 0
"""  # noqa: S608
JOURNAL_LAYOUT = Layout(
    measures=(Column("debit", "debit", "money"), Column("credit", "credit", "money")),
    keys=(_CURRENCY,),
    columns=(Column("day", "day", "date"), Column("account", "account_name")),
    sections=(JOURNAL_LINES,),
    expected="SELECT t.currency, sum(t.amount), sum(t.amount) FROM ledger_transfer t"  # noqa: S608
    f" WHERE {IN_PERIOD} GROUP BY t.currency",
)
