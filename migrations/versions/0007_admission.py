"""Admission, settlement, checkpoints and sweeping: one statement for all requests at hand.

Every function locks the scope rows it needs in the order of their ids, then the holds in the order of
theirs, so that no two of them can deadlock.
"""

from alembic import op

from farebox.core.sql import statements

revision = "0007"
down_revision = "0002"

ADMIT = """
CREATE FUNCTION farebox_admit(
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
        array_agg(s.active), array_agg(s.reserved), array_agg(s.spent_now), array_agg(s.balance)
    INTO v_ids, v_kinds, v_rpm, v_tpm, v_limit, v_cap, v_requests, v_tokens, v_active, v_reserved, v_spent,
        v_balance
    FROM (
        SELECT id, kind, monthly_cap, request_level, token_level, active, reserved, balance,
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
        IF r.live IS NOT TRUE THEN
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
        v_places := ARRAY[
            array_position(v_ids, r.key_id),
            array_position(v_ids, r.project_id),
            array_position(v_ids, r.organization_id)
        ];

        FOREACH v_place IN ARRAY v_places LOOP
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

SETTLE = """
CREATE FUNCTION farebox_settle(
    p_request uuid[], p_status text[], p_input integer[], p_cached integer[], p_output integer[],
    p_queue real[], p_prefill real[], p_decode real[], p_first real[], p_device real[],
    p_only_expired boolean DEFAULT false
) RETURNS TABLE (outcome text, amount numeric, currency text) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_month date;
    v_scopes uuid[];
BEGIN
    SELECT array_agg(DISTINCT scope.id ORDER BY scope.id) INTO v_scopes
    FROM hold h
    CROSS JOIN LATERAL (VALUES (h.api_key_id), (h.project_id), (h.organization_id)) AS scope (id)
    WHERE h.request_id = ANY (p_request);
    PERFORM 1 FROM meter_scope WHERE id = ANY (v_scopes) ORDER BY id FOR NO KEY UPDATE;
    PERFORM 1 FROM hold WHERE request_id = ANY (p_request) ORDER BY request_id FOR UPDATE;
    v_now := clock_timestamp();
    v_month := date_trunc('month', v_now AT TIME ZONE 'UTC');

    RETURN QUERY
    WITH asked AS (
        SELECT * FROM unnest(
            p_request, p_status, p_input, p_cached, p_output, p_queue, p_prefill, p_decode, p_first, p_device
        ) WITH ORDINALITY AS n (
            request_id, status, input, cached, output, queue, prefill, decode, first, device, place
        )
    ),
    resolved AS (
        DELETE FROM hold h USING asked n
        WHERE h.request_id = n.request_id AND (NOT p_only_expired OR h.lease_expires_at < v_now)
        RETURNING h.request_id, h.admitted_at, h.organization_id, h.project_id, h.api_key_id, h.model_id,
            h.price_id, h.input_per_million, h.cached_input_per_million, h.output_per_million, h.currency,
            h.tokens AS held_tokens, h.amount AS held_amount,
            n.status, n.input, n.cached, n.output, n.queue, n.prefill, n.decode, n.first, n.device,
            -- A bug upstream must never take more than was reserved: the payer agreed to no more.
            CASE WHEN n.status = 'void' THEN 0 ELSE least(h.amount, (
                n.input * h.input_per_million + n.cached * h.cached_input_per_million
                + n.output * h.output_per_million
            ) * 0.000001) END AS amount,
            CASE WHEN n.status = 'void' THEN 0 ELSE n.input + n.cached + n.output END AS used_tokens
    ),
    events AS (
        INSERT INTO usage_event (
            request_id, created_at, admitted_at, organization_id, project_id, api_key_id, model_id, status,
            input_tokens, cached_input_tokens, output_tokens,
            price_id, input_per_million, cached_input_per_million, output_per_million, amount, currency,
            queue_seconds, prefill_seconds, decode_seconds, first_token_seconds, device_seconds
        )
        SELECT request_id, v_now, admitted_at, organization_id, project_id, api_key_id, model_id, status,
            input, cached, output,
            price_id, input_per_million, cached_input_per_million, output_per_million, amount, currency,
            queue, prefill, decode, first, device
        FROM resolved WHERE status <> 'void'
    ),
    transfers AS (
        INSERT INTO ledger_transfer (
            id, organization_id, kind, debit_account, credit_account, amount, currency, created_at
        )
        SELECT request_id, organization_id, 'usage', 'prepaid', 'revenue', amount, currency, v_now
        FROM resolved WHERE amount > 0
    ),
    hours AS (
        INSERT INTO usage_hour AS u (
            organization_id, hour, project_id, api_key_id, model_id, currency,
            requests, input_tokens, cached_input_tokens, output_tokens, amount
        )
        SELECT organization_id, date_trunc('hour', v_now, 'UTC'), project_id, api_key_id, model_id, currency,
            count(*), sum(input), sum(cached), sum(output), sum(amount)
        FROM resolved WHERE status <> 'void'
        GROUP BY 1, 3, 4, 5, 6
        ON CONFLICT (organization_id, hour, project_id, api_key_id, model_id, currency) DO UPDATE
        SET requests = u.requests + excluded.requests,
            input_tokens = u.input_tokens + excluded.input_tokens,
            cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            amount = u.amount + excluded.amount
    ),
    released AS (
        UPDATE meter_scope s
        SET active = s.active - d.requests,
            reserved = s.reserved - d.held_amount,
            token_level = s.token_level + d.unused_tokens,
            spent = d.amount + CASE s.spend_month WHEN v_month THEN s.spent ELSE 0 END,
            spend_month = v_month,
            balance = s.balance - d.amount
        FROM (
            SELECT scope.id, count(*) AS requests, sum(held_amount) AS held_amount, sum(amount) AS amount,
                sum(held_tokens - used_tokens) AS unused_tokens
            FROM resolved
            CROSS JOIN LATERAL (VALUES (api_key_id), (project_id), (organization_id)) AS scope (id)
            GROUP BY scope.id
        ) d
        WHERE s.id = d.id
    ),
    used AS (
        UPDATE api_key k SET last_used_at = v_now
        WHERE k.id IN (SELECT DISTINCT api_key_id FROM resolved)
            AND (k.last_used_at IS NULL OR k.last_used_at < v_now - interval '1 minute')
    )
    SELECT
        CASE WHEN r.request_id IS NULL THEN 'absent' WHEN n.status = 'void' THEN 'voided' ELSE 'settled' END,
        r.amount, r.currency::text
    FROM asked n LEFT JOIN resolved r ON r.request_id = n.request_id
    ORDER BY n.place;
END $$
"""

CHECKPOINT = """
CREATE FUNCTION farebox_checkpoint(
    p_lease interval,
    p_request uuid[], p_delivered boolean[], p_input integer[], p_cached integer[], p_output integer[]
) RETURNS SETOF uuid LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM 1 FROM hold WHERE request_id = ANY (p_request) ORDER BY request_id FOR UPDATE;
    RETURN QUERY
    UPDATE hold h
    SET lease_expires_at = clock_timestamp() + p_lease, delivered = n.delivered,
        input_tokens = n.input, cached_input_tokens = n.cached, output_tokens = n.output
    FROM unnest(p_request, p_delivered, p_input, p_cached, p_output)
        AS n (request_id, delivered, input, cached, output)
    WHERE h.request_id = n.request_id
    RETURNING h.request_id;
END $$
"""

SWEEP = """
CREATE FUNCTION farebox_sweep(p_limit integer, p_restart_grace interval)
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
    -- Just after Postgres came back, no owner has had the time to renew what it still serves.
    IF clock_timestamp() - pg_postmaster_start_time() < p_restart_grace THEN
        RETURN;
    END IF;
    SELECT array_agg(h.request_id), array_agg(CASE WHEN h.delivered THEN 'interrupted' ELSE 'void' END),
        array_agg(h.input_tokens), array_agg(h.cached_input_tokens), array_agg(h.output_tokens)
    INTO v_request, v_status, v_input, v_cached, v_output
    FROM (
        SELECT * FROM hold WHERE lease_expires_at < clock_timestamp() ORDER BY request_id LIMIT p_limit
    ) h;
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

OFFERS = """
CREATE FUNCTION announce_model_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('farebox_model', '');
    RETURN NULL;
END $$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE ON model
    FOR EACH STATEMENT EXECUTE FUNCTION announce_model_change();
CREATE TRIGGER announce AFTER INSERT ON price
    FOR EACH STATEMENT EXECUTE FUNCTION announce_model_change();
"""

TUNING = """
ALTER TABLE hold SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE meter_scope SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE usage_hour SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
"""


def upgrade() -> None:
    for script in (ADMIT, SETTLE, CHECKPOINT, SWEEP, OFFERS, TUNING):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    for table in ("model", "price"):
        op.execute(f"DROP TRIGGER announce ON {table}")
    op.execute(
        "DROP FUNCTION announce_model_change, farebox_sweep, farebox_checkpoint, farebox_settle,"
        " farebox_admit"
    )
