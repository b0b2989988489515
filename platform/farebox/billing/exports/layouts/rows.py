"""The rows that exports are made of, as SQL: what was used, by hour, and what else the ledger holds.

Requests are in the ledger one by one, and in `usage_hour` by hour, project and model. Both are written by one
statement, so that they come to the same. Exports list the sums, and check them against the ledger.

`{text:…}` marks text that people chose: where a spreadsheet reads it, it must not begin a formula.
Order is kept by loops over indexes, not by a sort of everything (`PLANNER`): there may be any number of rows.
"""

# Transfers of requests, which `usage_hour` sums up.
OF_REQUESTS = "(t.kind = 'usage' OR t.kind = 'adjustment' AND t.reason IS NOT DISTINCT FROM 'undelivered')"
IN_PERIOD = (
    "t.created_at >= $1::timestamptz AND t.created_at < $2::timestamptz"
    " AND ($3::uuid IS NULL OR t.organization_id = $3::uuid)"
)
# Accounts of what was earned; see `billing.ledger`.
EARNED = "({account} LIKE 'revenue:%' OR {account} IN ('tax', 'rounding'))"

# Parameters of the connection that reads exports.
PLANNER = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_hashagg": "off",
    "max_parallel_workers_per_gather": "0",
    "random_page_cost": "1.1",
    "work_mem": "32MB",
    "datestyle": "ISO",
}

# An hour, project, model and class of tokens a row: what it cost, and its public price as the hour began.
USAGE = """
    SELECT
        item.amount, h.currency, h.hour AS starts, h.hour + interval '1 hour' AS ends,
        h.organization_id, organization.name AS organization, h.project_id, project.name AS project,
        h.model_id, {text:h.model_id} AS model, item.class AS token_class, item.quantity, h.requests,
        list.price_id, item.list_per_million, item.place
    FROM (
        SELECT
            u.organization_id, u.hour, u.project_id, u.model_id, u.currency,
            sum(u.requests)::bigint AS requests, sum(u.input_tokens)::bigint AS input,
            sum(u.cached_input_tokens)::bigint AS cached, sum(u.output_tokens)::bigint AS output,
            sum(u.items)::bigint AS items, sum(u.amount) AS amount, sum(u.input_amount) AS input_amount,
            sum(u.cached_input_amount) AS cached_amount, sum(u.item_amount) AS item_amount
        FROM usage_hour u
        WHERE u.hour >= $1::timestamptz AND u.hour < $2::timestamptz
            AND ($3::uuid IS NULL OR u.organization_id = $3::uuid)
        GROUP BY u.organization_id, u.hour, u.project_id, u.model_id, u.currency
    ) h
    JOIN LATERAL (
        SELECT {text:o.name} AS name FROM organization o WHERE o.id = h.organization_id
    ) organization ON true
    LEFT JOIN LATERAL (
        SELECT {text:p.name} AS name FROM project p WHERE p.id = h.project_id
    ) project ON true
    LEFT JOIN LATERAL (
        SELECT
            p.id AS price_id, p.input_per_million AS input, p.cached_input_per_million AS cached,
            p.output_per_million AS output, p.item_per_million AS item
        FROM price p
        WHERE p.model_id = h.model_id AND p.currency = h.currency
            AND p.organization_id IS NULL AND p.plan_id IS NULL
        -- The one that held at the hour's beginning, or else the first one after.
        ORDER BY p.effective_from <= h.hour DESC, abs(extract(epoch FROM p.effective_from - h.hour))
        LIMIT 1
    ) list ON true
    CROSS JOIN LATERAL (VALUES
        (1, 'input', h.input, h.input_amount, list.input),
        (2, 'cached_input', h.cached, h.cached_amount, list.cached),
        (3, 'output', h.output, h.amount - h.input_amount - h.cached_amount - h.item_amount, list.output),
        -- Of a model that is sold by the token alone, items are no row.
        (4, 'items', CASE WHEN h.item_amount <> 0 THEN h.items ELSE 0 END, h.item_amount, list.item)
    ) AS item (place, class, quantity, amount, list_per_million)
    WHERE item.quantity <> 0 OR item.amount <> 0
"""
USAGE_ORDER = "organization_id, starts, project_id, model_id, currency, place"

# What of an hour's requests was paid by what: prepaid and promotional credit, less what came back.
DRAWN = f"""
    SELECT
        t.organization_id, date_trunc('hour', t.created_at, 'UTC') AS starts, t.currency,
        coalesce(sum(t.amount) FILTER (WHERE t.credit_account = 'prepaid'), 0)
            - coalesce(sum(t.amount) FILTER (WHERE t.debit_account = 'prepaid'), 0) AS prepaid,
        coalesce(sum(t.amount) FILTER (WHERE t.credit_account = 'promotional'), 0)
            - coalesce(sum(t.amount) FILTER (WHERE t.debit_account = 'promotional'), 0) AS promotional
    FROM ledger_transfer t
    WHERE {OF_REQUESTS} AND {IN_PERIOD}
    GROUP BY 1, 2, 3
"""  # noqa: S608

# All other transfers, one by one.
OTHERS = f"""
    SELECT
        t.id, t.organization_id, {{text:o.name}} AS organization, t.kind, t.debit_account, t.credit_account,
        {{text:t.debit_account}} AS debited, {{text:t.credit_account}} AS credited,
        t.amount, t.currency, {{text:t.reference}} AS reference, t.created_at,
        date_trunc('hour', t.created_at, 'UTC') AS starts
    FROM ledger_transfer t
    JOIN organization o ON o.id = t.organization_id
    WHERE NOT {OF_REQUESTS} AND {IN_PERIOD}
"""  # noqa: S608
