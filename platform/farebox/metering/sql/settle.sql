-- Settlement: holds become usage events, once. One call for all requests that ended meanwhile, one
-- transaction, one row answered for each request in order.
--
-- Resolving a hold deletes it, and everything that is booked is booked from what the delete returned.
-- Whoever comes second, a retry, a sweep or a spool replayed twice, finds no hold and books nothing. Its
-- answer is `absent`.
--
-- Lock order: scope rows by id, then holds by request id. `farebox_admit` and `farebox_rehold` take the
-- scopes in the same order, `farebox_checkpoint` the holds.
--
-- Outcomes: settled, voided (status `void`: nothing was delivered, nothing is billed, no event is left),
-- absent (no hold, or with `p_only_expired` one whose owner has renewed it meanwhile), contended (somebody
-- else keeps a scope locked: nothing is booked, to be asked again).
CREATE FUNCTION farebox_settle(
    -- One array a column, all of one length. Token classes are disjoint; times are in seconds.
    p_request uuid[],
    p_status text[],
    p_input integer[],
    p_cached integer[],
    p_output integer[],
    p_queue real[],
    p_prefill real[],
    p_decode real[],
    p_first real[],
    p_device real[],
    -- Whether what is billed has left for its client. A whole answer has not: it is noted in `handover`, and
    -- credited unless somebody confirms or renews that within `p_lease`.
    p_handed_over boolean[],
    p_lease interval,
    -- For the sweep: leave alone what came back to life since it was found.
    p_only_expired boolean,
    -- Pass over what others keep locked, instead of waiting for it.
    p_skip_locked boolean
) RETURNS TABLE (
    outcome text,
    amount numeric,
    currency text
) LANGUAGE plpgsql
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
    IF p_skip_locked THEN
        v_scopes := ARRAY(
            SELECT id FROM meter_scope WHERE id = ANY (v_scopes) ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
        );
    ELSE
        PERFORM 1 FROM meter_scope WHERE id = ANY (v_scopes) ORDER BY id FOR NO KEY UPDATE;
    END IF;
    PERFORM 1 FROM hold WHERE request_id = ANY (p_request) ORDER BY request_id FOR UPDATE;
    -- Read after the locks, so that the hour, the month and what has expired are those of the booking.
    v_now := clock_timestamp();
    v_month := date_trunc('month', v_now AT TIME ZONE 'UTC');

    RETURN QUERY
    WITH asked AS (
        SELECT
            n.request_id, n.status,
            -- Of what a dead server delivered, its hold may know more than a spool that it left, or less.
            greatest(n.input, h.input_tokens) AS input,
            greatest(n.cached, h.cached_input_tokens) AS cached,
            greatest(n.output, h.output_tokens) AS output,
            n.queue, n.prefill, n.decode, n.first, n.device, n.handed_over, n.place
        FROM unnest(
            p_request, p_status, p_input, p_cached, p_output,
            p_queue, p_prefill, p_decode, p_first, p_device, p_handed_over
        ) WITH ORDINALITY AS n (
            request_id, status, input, cached, output,
            queue, prefill, decode, first, device, handed_over, place
        )
        LEFT JOIN hold h ON h.request_id = n.request_id AND n.status = 'interrupted'
    ),
    -- The one step that decides: a hold is there to be deleted once.
    resolved AS (
        DELETE FROM hold h USING asked n
        WHERE h.request_id = n.request_id AND (NOT p_only_expired OR h.lease_expires_at < v_now)
            -- Asked only if it can be otherwise: it costs more than the rest.
            AND (NOT p_skip_locked OR ARRAY[h.api_key_id, h.project_id, h.organization_id] <@ v_scopes)
        RETURNING
            h.request_id, h.admitted_at, h.organization_id, h.project_id, h.api_key_id, h.model_id,
            h.price_id, h.input_per_million, h.cached_input_per_million, h.output_per_million, h.currency,
            h.tokens AS held_tokens, h.amount AS held_amount, h.tiered, h.item_per_million,
            n.status, n.input, n.cached, n.output, n.queue, n.prefill, n.decode, n.first, n.device,
            n.handed_over,
            -- Of an answer in pieces nothing was delivered, unless all was.
            CASE WHEN n.status = 'completed' THEN h.items ELSE 0 END AS items,
            CASE WHEN n.status = 'void' THEN 0 ELSE n.input + n.cached + n.output END AS used_tokens
    ),
    -- Once for each request: it moves the month's place in the tiers.
    taken AS MATERIALIZED (
        SELECT *, CASE WHEN tiered AND status <> 'void' THEN farebox_take_tiers(
            organization_id, model_id, price_id, date_trunc('month', admitted_at AT TIME ZONE 'UTC')::date,
            input, cached, output, held_amount - items * item_per_million * 0.000001
        ) END AS tier
        FROM resolved
    ),
    billed AS (
        SELECT
            c.*,
            least(c.input_cost, c.amount) AS input_amount,
            least(c.cached_cost, c.amount - least(c.input_cost, c.amount)) AS cached_amount,
            least(c.item_cost, greatest(c.amount - c.input_cost - c.cached_cost, 0)) AS item_amount
        FROM (
            SELECT
                t.*, c.input_cost, c.cached_cost, c.item_cost,
                -- A bug upstream must never take more than was reserved: the payer agreed to no more.
                CASE WHEN t.status = 'void' THEN 0
                    ELSE least(t.held_amount, c.input_cost + c.cached_cost + c.output_cost + c.item_cost)
                END AS amount
            FROM taken t
            CROSS JOIN LATERAL (
                SELECT
                    CASE WHEN t.tiered THEN (t.tier).input
                        ELSE t.input * t.input_per_million * 0.000001 END AS input_cost,
                    CASE WHEN t.tiered THEN (t.tier).cached_input
                        ELSE t.cached * t.cached_input_per_million * 0.000001 END AS cached_cost,
                    CASE WHEN t.tiered THEN (t.tier).output
                        ELSE t.output * t.output_per_million * 0.000001 END AS output_cost,
                    t.items * t.item_per_million * 0.000001 AS item_cost
            ) c
        ) c
    ),
    -- The usage event, at the price that was frozen at admission.
    events AS (
        INSERT INTO usage_event (
            request_id, created_at, admitted_at, organization_id, project_id, api_key_id, model_id, status,
            input_tokens, cached_input_tokens, output_tokens,
            price_id, input_per_million, cached_input_per_million, output_per_million, amount, currency,
            queue_seconds, prefill_seconds, decode_seconds, first_token_seconds, device_seconds,
            items, item_per_million, input_amount, cached_input_amount, item_amount, tiers_from
        )
        SELECT
            request_id, v_now, admitted_at, organization_id, project_id, api_key_id, model_id, status,
            input, cached, output,
            price_id, input_per_million, cached_input_per_million, output_per_million, amount, currency,
            queue, prefill, decode, first, device,
            items, item_per_million, input_amount, cached_amount, item_amount, (tier).used
        FROM billed WHERE status <> 'void'
    ),
    leaving AS (
        INSERT INTO handover (request_id, lease_expires_at)
        SELECT request_id, v_now + p_lease FROM resolved WHERE status <> 'void' AND NOT handed_over
    ),
    -- Who pays: promotional credit first, then what was paid in, then the credit line. Of one batch's requests
    -- each finds what those before it left.
    funded AS (
        SELECT
            r.request_id, r.organization_id, r.model_id, r.amount, r.currency,
            f.promotional, f.prepaid, r.amount - f.promotional - f.prepaid AS receivable
        FROM (
            SELECT *, sum(amount) OVER (PARTITION BY organization_id ORDER BY request_id) - amount AS before
            FROM billed WHERE amount > 0
        ) r
        JOIN meter_scope s ON s.id = r.organization_id
        CROSS JOIN LATERAL farebox_fund(s.balance, s.promotional, r.before, r.amount) AS f
    ),
    -- The ledger, double entry: a leg for each account that pays. Their ids come from the request's: a second
    -- one cannot be written.
    transfers AS (
        INSERT INTO ledger_transfer (
            id, organization_id, request_id, kind, debit_account, credit_account, amount, currency, created_at
        )
        SELECT
            farebox_leg(f.request_id, leg.account), f.organization_id, f.request_id, 'usage', leg.account,
            'revenue:' || f.model_id, leg.amount, f.currency, v_now
        FROM funded f
        CROSS JOIN LATERAL (VALUES
            ('prepaid', f.prepaid), ('promotional', f.promotional), ('receivable', f.receivable)
        ) AS leg (account, amount)
        WHERE leg.amount > 0
    ),
    -- The sums by hour and by minute, which therefore always equal the events. What was capped pays for the
    -- input first, then for the cached input, then for items; the output has the rest.
    sums AS (
        SELECT
            organization_id, project_id, api_key_id, model_id, currency,
            count(*) AS requests, sum(input) AS input, sum(cached) AS cached, sum(output) AS output,
            sum(items) AS items, sum(amount) AS amount, sum(input_amount) AS input_amount,
            sum(cached_amount) AS cached_amount, sum(item_amount) AS item_amount
        FROM billed WHERE status <> 'void'
        GROUP BY 1, 2, 3, 4, 5
    ),
    hours AS (
        INSERT INTO usage_hour AS u (
            organization_id, hour, project_id, api_key_id, model_id, currency,
            requests, input_tokens, cached_input_tokens, output_tokens,
            amount, input_amount, cached_input_amount, items, item_amount
        )
        SELECT
            organization_id, date_trunc('hour', v_now, 'UTC'), project_id, api_key_id, model_id, currency,
            requests, input, cached, output, amount, input_amount, cached_amount, items, item_amount
        FROM sums
        ON CONFLICT (organization_id, hour, project_id, api_key_id, model_id, currency) DO UPDATE
        SET
            requests = u.requests + excluded.requests,
            input_tokens = u.input_tokens + excluded.input_tokens,
            cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            amount = u.amount + excluded.amount,
            input_amount = u.input_amount + excluded.input_amount,
            cached_input_amount = u.cached_input_amount + excluded.cached_input_amount,
            items = u.items + excluded.items,
            item_amount = u.item_amount + excluded.item_amount
    ),
    minutes AS (
        INSERT INTO usage_minute AS u (
            organization_id, minute, project_id, api_key_id, model_id, currency,
            requests, input_tokens, cached_input_tokens, output_tokens, amount
        )
        SELECT
            organization_id, date_trunc('minute', v_now, 'UTC'), project_id, api_key_id, model_id, currency,
            requests, input, cached, output, amount
        FROM sums
        ON CONFLICT (organization_id, minute, project_id, api_key_id, model_id, currency) DO UPDATE
        SET
            requests = u.requests + excluded.requests,
            input_tokens = u.input_tokens + excluded.input_tokens,
            cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            amount = u.amount + excluded.amount
    ),
    -- Every scope: reserved becomes spent, and the tokens that were not used go back into the bucket.
    released AS (
        UPDATE meter_scope s
        SET
            active = s.active - d.requests,
            reserved = s.reserved - d.held_amount,
            token_level = s.token_level + d.unused_tokens,
            -- A month never goes back, whatever the clock does.
            spent = d.amount + CASE WHEN s.spend_month < v_month THEN 0 ELSE s.spent END,
            spend_month = greatest(s.spend_month, v_month),
            balance = s.balance - d.amount,
            promotional = s.promotional - coalesce(
                (SELECT sum(f.promotional) FROM funded f WHERE f.organization_id = s.id), 0
            )
        FROM (
            SELECT
                scope.id, count(*) AS requests, sum(held_amount) AS held_amount, sum(amount) AS amount,
                sum(held_tokens - used_tokens) AS unused_tokens
            FROM billed
            CROSS JOIN LATERAL (VALUES (api_key_id), (project_id), (organization_id)) AS scope (id)
            GROUP BY scope.id
        ) d
        WHERE s.id = d.id
    ),
    -- Once a minute is exact enough for people, and a row version less for each request.
    used AS (
        UPDATE api_key SET last_used_at = v_now WHERE id IN (
            SELECT k.id FROM api_key k
            WHERE k.id IN (SELECT api_key_id FROM resolved)
                AND (k.last_used_at IS NULL OR k.last_used_at < v_now - interval '1 minute')
            -- Not worth a wait for whoever holds a key: all others would wait as well.
            FOR NO KEY UPDATE SKIP LOCKED
        )
    )
    SELECT
        CASE
            WHEN r.request_id IS NOT NULL THEN CASE n.status WHEN 'void' THEN 'voided' ELSE 'settled' END
            WHEN p_skip_locked AND EXISTS (
                SELECT FROM hold h WHERE h.request_id = n.request_id
                    AND NOT ARRAY[h.api_key_id, h.project_id, h.organization_id] <@ v_scopes
            ) THEN 'contended'
            ELSE 'absent'
        END,
        r.amount, r.currency::text
    FROM asked n LEFT JOIN billed r ON r.request_id = n.request_id
    ORDER BY n.place;
END $$;
