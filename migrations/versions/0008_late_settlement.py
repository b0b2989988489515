"""Bills that survive the loss of their hold; balances have a currency; scopes that are missing close.

A settlement that finds neither hold nor event (a sweep voided the hold while its owner could not reach
Postgres, or a crash of Postgres took it before it was on disk) is billed all the same, never beyond
what balance and caps have left.
"""

from alembic import context, op

from farebox.core.sql import statements

revision = "0008"
down_revision = "0007"

CURRENCY = """
ALTER TABLE meter_scope ADD COLUMN currency char(3);
ALTER TABLE meter_scope ADD CONSTRAINT ck_meter_scope_currency
    CHECK (currency IS NULL OR kind = 'organization');
UPDATE meter_scope s SET currency = t.currency
FROM (SELECT organization_id, min(currency) AS currency FROM ledger_transfer GROUP BY 1) t
WHERE s.id = t.organization_id;
"""

ADMIT = """
CREATE OR REPLACE FUNCTION farebox_admit(
    p_owner uuid, p_lease interval,
    p_request uuid[], p_key uuid[], p_digest bytea[], p_model text[], p_prompt integer[], p_output integer[],
    p_default_rpm integer, p_default_tpm bigint, p_default_concurrent integer
) RETURNS TABLE (
    verdict text, failed_scope text, failed_limit text, limit_value numeric, retry_after double precision,
    organization_id uuid, project_id uuid,
    price_id uuid, input_per_million numeric, cached_input_per_million numeric, output_per_million numeric,
    currency text,
    rpm integer, rpm_left double precision, tpm bigint, tpm_left double precision
) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_ids uuid[];
    v_kinds text[];
    v_rpm integer[];
    v_tpm bigint[];
    v_limit integer[];
    v_cap numeric[];
    v_requests double precision[];
    v_tokens double precision[];
    v_active integer[];
    v_reserved numeric[];
    v_spent numeric[];
    v_balance numeric[];
    v_currency text[];
    v_holds hold[] := '{}';
    v_places integer[];
    v_place integer;
    v_need bigint;
    v_amount numeric;
    v_wait double precision;
    r record;
BEGIN
    SELECT array_agg(DISTINCT scope.id ORDER BY scope.id) INTO v_ids
    FROM unnest(p_key, p_digest) AS n (key_id, digest)
    JOIN api_key k ON k.id = n.key_id AND k.token_sha256 = n.digest
    CROSS JOIN LATERAL (VALUES (k.id), (k.project_id), (k.organization_id)) AS scope (id);

    PERFORM 1 FROM meter_scope WHERE id = ANY (v_ids) ORDER BY id FOR NO KEY UPDATE;
    v_now := clock_timestamp();

    SELECT array_agg(s.id), array_agg(s.kind), array_agg(s.rpm), array_agg(s.tpm), array_agg(s.concurrent),
        array_agg(s.monthly_cap),
        array_agg(least(s.rpm, coalesce(s.request_level, s.rpm) + s.rpm * s.elapsed / 60)),
        array_agg(least(s.tpm, coalesce(s.token_level, s.tpm) + s.tpm * s.elapsed / 60)),
        array_agg(s.active), array_agg(s.reserved), array_agg(s.spent_now), array_agg(s.balance),
        array_agg(s.currency::text)
    INTO v_ids, v_kinds, v_rpm, v_tpm, v_limit, v_cap, v_requests, v_tokens, v_active, v_reserved, v_spent,
        v_balance, v_currency
    FROM (
        SELECT id, kind, monthly_cap, request_level, token_level, active, reserved, balance, currency,
            coalesce(requests_per_minute, CASE kind WHEN 'project' THEN p_default_rpm END) AS rpm,
            coalesce(tokens_per_minute, CASE kind WHEN 'project' THEN p_default_tpm END) AS tpm,
            coalesce(concurrent_requests, CASE kind WHEN 'project' THEN p_default_concurrent END)
                AS concurrent,
            CASE WHEN spend_month = date_trunc('month', v_now AT TIME ZONE 'UTC') THEN spent ELSE 0 END
                AS spent_now,
            greatest(extract(epoch FROM v_now - refilled_at), 0)::double precision AS elapsed
        FROM meter_scope WHERE id = ANY (v_ids) ORDER BY id
    ) s;

    FOR r IN
        SELECT n.request_id, n.model_id, n.prompt, n.output, k.id AS key_id, k.organization_id, k.project_id,
            k.revoked_at IS NULL AND k.expires_at > v_now AND 'inference' = ANY (k.scopes)
                AND p.archived_at IS NULL AND o.status = 'active' AS live,
            k.models IS NULL OR n.model_id = ANY (k.models) AS allowed,
            price.id AS price_id, price.input_per_million, price.cached_input_per_million,
            price.output_per_million, price.currency
        FROM unnest(p_request, p_key, p_digest, p_model, p_prompt, p_output) WITH ORDINALITY
            AS n (request_id, key_id, digest, model_id, prompt, output, place)
        LEFT JOIN api_key k ON k.id = n.key_id AND k.token_sha256 = n.digest
        LEFT JOIN project p ON p.id = k.project_id
        LEFT JOIN organization o ON o.id = k.organization_id
        LEFT JOIN model m ON m.id = n.model_id AND m.removed_at IS NULL
        LEFT JOIN LATERAL (
            SELECT * FROM price WHERE price.model_id = m.id AND price.effective_from <= v_now
            ORDER BY price.effective_from DESC LIMIT 1
        ) price ON true
        ORDER BY n.place
    LOOP
        organization_id := r.organization_id;
        project_id := r.project_id;
        failed_scope := NULL;
        failed_limit := NULL;
        limit_value := NULL;
        retry_after := NULL;
        rpm := NULL;
        rpm_left := NULL;
        tpm := NULL;
        tpm_left := NULL;
        v_places := ARRAY[
            array_position(v_ids, r.key_id),
            array_position(v_ids, r.project_id),
            array_position(v_ids, r.organization_id)
        ];
        -- A scope without a row has no limits to obey: it opens nothing.
        IF r.live IS NOT TRUE OR array_position(v_places, NULL) IS NOT NULL THEN
            verdict := 'bad_key';
            RETURN NEXT;
            CONTINUE;
        ELSIF NOT r.allowed OR r.price_id IS NULL THEN
            verdict := 'no_model';
            RETURN NEXT;
            CONTINUE;
        END IF;
        price_id := r.price_id;
        input_per_million := r.input_per_million;
        cached_input_per_million := r.cached_input_per_million;
        output_per_million := r.output_per_million;
        currency := r.currency;
        verdict := 'admitted';
        v_need := r.prompt::bigint + r.output;
        v_amount := (
            r.prompt * greatest(r.input_per_million, r.cached_input_per_million)
            + r.output * r.output_per_million
        ) * 0.000001;

        IF v_amount > 0 AND v_currency[v_places[3]] <> r.currency THEN
            verdict := 'no_quota';
            failed_limit := 'currency';
            limit_value := v_balance[v_places[3]];
            failed_scope := 'organization';
        END IF;
        FOREACH v_place IN ARRAY v_places LOOP
            EXIT WHEN verdict = 'no_quota';
            IF v_balance[v_place] - v_reserved[v_place] < v_amount THEN
                verdict := 'no_quota';
                failed_limit := 'balance';
                limit_value := v_balance[v_place];
            ELSIF v_spent[v_place] + v_reserved[v_place] + v_amount > v_cap[v_place] THEN
                verdict := 'no_quota';
                failed_limit := 'monthly_cap';
                limit_value := v_cap[v_place];
            ELSE
                CONTINUE;
            END IF;
            failed_scope := v_kinds[v_place];
            EXIT;
        END LOOP;

        FOREACH v_place IN ARRAY v_places LOOP
            EXIT WHEN verdict = 'no_quota';
            v_wait := NULL;
            IF v_requests[v_place] < 1 THEN
                v_wait := CASE WHEN v_rpm[v_place] < 1 THEN 'infinity'::double precision
                    ELSE (1 - v_requests[v_place]) * 60 / v_rpm[v_place] END;
                IF v_wait > coalesce(retry_after, -1) THEN
                    failed_limit := 'requests_per_minute';
                    limit_value := v_rpm[v_place];
                    failed_scope := v_kinds[v_place];
                    retry_after := v_wait;
                END IF;
            END IF;
            IF v_tokens[v_place] < v_need THEN
                v_wait := CASE WHEN v_tpm[v_place] < v_need THEN 'infinity'::double precision
                    ELSE (v_need - v_tokens[v_place]) * 60 / v_tpm[v_place] END;
                IF v_wait > coalesce(retry_after, -1) THEN
                    failed_limit := 'tokens_per_minute';
                    limit_value := v_tpm[v_place];
                    failed_scope := v_kinds[v_place];
                    retry_after := v_wait;
                END IF;
            END IF;
            IF v_active[v_place] >= v_limit[v_place] THEN
                v_wait := CASE WHEN v_limit[v_place] < 1 THEN 'infinity'::double precision ELSE 1 END;
                IF v_wait > coalesce(retry_after, -1) THEN
                    failed_limit := 'concurrent_requests';
                    limit_value := v_limit[v_place];
                    failed_scope := v_kinds[v_place];
                    retry_after := v_wait;
                END IF;
            END IF;
            IF v_wait IS NOT NULL THEN
                verdict := 'rate_limited';
            END IF;
        END LOOP;

        FOREACH v_place IN ARRAY v_places LOOP
            IF verdict = 'admitted' THEN
                v_requests[v_place] := v_requests[v_place] - 1;
                v_tokens[v_place] := v_tokens[v_place] - v_need;
                v_active[v_place] := v_active[v_place] + 1;
                v_reserved[v_place] := v_reserved[v_place] + v_amount;
            END IF;
            IF v_requests[v_place] < coalesce(rpm_left, 'infinity') THEN
                rpm := v_rpm[v_place];
                rpm_left := v_requests[v_place];
            END IF;
            IF v_tokens[v_place] < coalesce(tpm_left, 'infinity') THEN
                tpm := v_tpm[v_place];
                tpm_left := v_tokens[v_place];
            END IF;
        END LOOP;

        IF verdict = 'admitted' THEN
            v_holds := v_holds || ROW(
                r.request_id, p_owner, r.organization_id, r.project_id, r.key_id, r.model_id, r.price_id,
                r.input_per_million, r.cached_input_per_million, r.output_per_million, r.currency,
                v_need, v_amount, v_now, v_now + p_lease, false, 0, 0, 0
            )::hold;
        END IF;
        RETURN NEXT;
    END LOOP;

    IF cardinality(v_holds) > 0 THEN
        INSERT INTO hold SELECT * FROM unnest(v_holds);
        UPDATE meter_scope s
        SET request_level = a.requests, token_level = a.tokens, refilled_at = v_now,
            active = a.active, reserved = a.reserved
        FROM unnest(v_ids, v_requests, v_tokens, v_active, v_reserved)
            AS a (id, requests, tokens, active, reserved)
        WHERE s.id = a.id;
    END IF;
END $$
"""

REHOLD = """
CREATE FUNCTION farebox_rehold(
    p_owner uuid, p_lease interval,
    p_organization uuid[], p_project uuid[], p_key uuid[], p_model text[], p_price uuid[],
    p_input_price numeric[], p_cached_price numeric[], p_output_price numeric[], p_currency text[],
    p_admitted timestamptz[], p_request uuid[], p_tokens bigint[], p_amount numeric[]
) RETURNS SETOF uuid LANGUAGE plpgsql
AS $$
DECLARE
    v_month date;
    v_scopes uuid[];
    v_amount numeric;
    r record;
BEGIN
    SELECT array_agg(DISTINCT id ORDER BY id) INTO v_scopes
    FROM unnest(p_key || p_project || p_organization) AS scope (id);
    -- Whoever settles a request holds these rows: none can do so between our look and our insert.
    PERFORM 1 FROM meter_scope WHERE id = ANY (v_scopes) ORDER BY id FOR NO KEY UPDATE;
    v_month := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC');
    FOR r IN
        SELECT * FROM unnest(
            p_organization, p_project, p_key, p_model, p_price, p_input_price, p_cached_price,
            p_output_price, p_currency, p_admitted, p_request, p_tokens, p_amount
        ) AS n (
            organization_id, project_id, key_id, model_id, price_id, input_price, cached_price,
            output_price, currency, admitted_at, request_id, tokens, amount
        )
        ORDER BY request_id
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM usage_event e WHERE e.request_id = r.request_id)
            OR EXISTS (SELECT FROM hold h WHERE h.request_id = r.request_id);
        SELECT greatest(0, least(
            r.amount,
            min(s.balance - s.reserved),
            min(s.monthly_cap - s.reserved - CASE s.spend_month WHEN v_month THEN s.spent ELSE 0 END)
        )) INTO v_amount
        FROM meter_scope s WHERE s.id IN (r.key_id, r.project_id, r.organization_id);
        INSERT INTO hold VALUES (
            r.request_id, p_owner, r.organization_id, r.project_id, r.key_id, r.model_id, r.price_id,
            r.input_price, r.cached_price, r.output_price, r.currency,
            r.tokens, v_amount, r.admitted_at, clock_timestamp() + p_lease, false, 0, 0, 0
        );
        UPDATE meter_scope s SET active = s.active + 1, reserved = s.reserved + v_amount
        WHERE s.id IN (r.key_id, r.project_id, r.organization_id);
        RETURN NEXT r.request_id;
    END LOOP;
END $$
"""

SETTLE_LATE = """
CREATE FUNCTION farebox_settle_late(
    p_organization uuid[], p_project uuid[], p_key uuid[], p_model text[], p_price uuid[],
    p_input_price numeric[], p_cached_price numeric[], p_output_price numeric[], p_currency text[],
    p_admitted timestamptz[],
    p_request uuid[], p_status text[], p_input integer[], p_cached integer[], p_output integer[],
    p_queue real[], p_prefill real[], p_decode real[], p_first real[], p_device real[]
) RETURNS TABLE (outcome text, amount numeric, currency text) LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM farebox_rehold(
        p_request[1], interval '0', p_organization, p_project, p_key, p_model, p_price,
        p_input_price, p_cached_price, p_output_price, p_currency, p_admitted, p_request,
        (
            SELECT array_agg(n.input + n.cached + n.output ORDER BY n.place)
            FROM unnest(p_input::bigint[], p_cached::bigint[], p_output::bigint[]) WITH ORDINALITY
                AS n (input, cached, output, place)
        ),
        (
            SELECT array_agg(
                (n.input * n.input_price + n.cached * n.cached_price + n.output * n.output_price) * 0.000001
                ORDER BY n.place
            )
            FROM unnest(p_input, p_cached, p_output, p_input_price, p_cached_price, p_output_price)
                WITH ORDINALITY AS n (input, cached, output, input_price, cached_price, output_price, place)
        )
    );
    RETURN QUERY SELECT * FROM farebox_settle(
        p_request, p_status, p_input, p_cached, p_output, p_queue, p_prefill, p_decode, p_first, p_device
    );
END $$
"""

# The one that takes a limit stays for replicas of the former version, until a later migration.
SWEEP = """
CREATE FUNCTION farebox_sweep(p_request uuid[])
RETURNS TABLE (request_id uuid, outcome text, amount numeric) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_request uuid[];
    v_status text[];
    v_input integer[];
    v_cached integer[];
    v_output integer[];
    v_unknown real[];
BEGIN
    SELECT array_agg(h.request_id), array_agg(CASE WHEN h.delivered THEN 'interrupted' ELSE 'void' END),
        array_agg(h.input_tokens), array_agg(h.cached_input_tokens), array_agg(h.output_tokens)
    INTO v_request, v_status, v_input, v_cached, v_output
    FROM hold h WHERE h.request_id = ANY (p_request) AND h.lease_expires_at < clock_timestamp();
    IF v_request IS NULL THEN
        RETURN;
    END IF;
    v_unknown := array_fill(NULL::real, ARRAY[cardinality(v_request)]);
    RETURN QUERY
    SELECT v_request[s.place], s.outcome, s.amount
    FROM farebox_settle(
        v_request, v_status, v_input, v_cached, v_output,
        v_unknown, v_unknown, v_unknown, v_unknown, v_unknown, true
    ) WITH ORDINALITY AS s (outcome, amount, currency, place);
END $$
"""


def upgrade() -> None:
    for script in (CURRENCY, ADMIT, REHOLD, SETTLE_LATE, SWEEP):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    before = context.script.get_revision("0007").module
    op.execute("DROP FUNCTION farebox_settle_late, farebox_rehold, farebox_sweep(uuid[])")
    op.execute(before.ADMIT.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute("ALTER TABLE meter_scope DROP COLUMN currency")
