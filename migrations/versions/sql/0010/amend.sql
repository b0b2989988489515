-- Amend what a sweep settled as `interrupted`: its owner, or whoever found its spool, knows that more was
-- delivered. The event stays as it was; the difference gets a row, a transfer and a place in the sums of its
-- own. What is not reserved any more is billed as far as balance and caps reach, and in all no more
-- than was reserved once.
--
-- Once for each request: the amendment's key is the request. Events of another status were settled by their
-- owner and are not amended.
--
-- Outcomes: amended, absent (nothing to amend). The amount is what the request came to in the ledger, both
-- times; NULL for one without an event.
--
-- Lock order: scope rows by id. With them locked nobody else can amend this request.
CREATE FUNCTION farebox_amend(
    p_request uuid,
    p_status text,
    -- Running totals of what was delivered, in disjoint classes.
    p_input integer,
    p_cached integer,
    p_output integer,
    -- What admission reserved: the payer agreed to no more.
    p_reserved numeric
) RETURNS TABLE (
    outcome text,
    amount numeric,
    currency text
) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    e usage_event;
    v_now timestamptz;
    v_month date;
    v_input integer;
    v_cached integer;
    v_output integer;
    v_amount numeric;
    v_input_amount numeric;
    v_cached_amount numeric;
    v_promotional numeric;
    v_prepaid numeric;
    v_tiered boolean;
    v_amends boolean;
    v_most numeric;
BEGIN
    SELECT * INTO e FROM usage_event u WHERE u.request_id = p_request;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'absent', NULL::numeric, NULL::text;
        RETURN;
    END IF;
    PERFORM 1 FROM meter_scope WHERE id IN (e.api_key_id, e.project_id, e.organization_id)
    ORDER BY id FOR NO KEY UPDATE;
    v_now := clock_timestamp();
    v_month := date_trunc('month', v_now AT TIME ZONE 'UTC');
    v_input := greatest(p_input - e.input_tokens, 0);
    v_cached := greatest(p_cached - e.cached_input_tokens, 0);
    v_output := greatest(p_output - e.output_tokens, 0);

    SELECT greatest(0, least(
        p_reserved - e.amount,
        min(s.balance + s.credit_line - s.reserved),
        min(s.monthly_cap - s.reserved - CASE WHEN s.spend_month < v_month THEN 0 ELSE s.spent END)
    )) INTO v_most
    FROM meter_scope s WHERE s.id IN (e.api_key_id, e.project_id, e.organization_id);
    -- Also where nothing is lacking but how it ended.
    v_amends := e.status = 'interrupted'
        AND NOT EXISTS (SELECT FROM usage_amendment a WHERE a.request_id = p_request)
        AND (
            v_input + v_cached + v_output > 0
            OR p_status <> 'interrupted' AND p_input = e.input_tokens AND p_cached = e.cached_input_tokens
                AND p_output = e.output_tokens
        );
    SELECT p.scheme <> 'flat' INTO v_tiered FROM price p WHERE p.id = e.price_id;
    IF v_tiered AND v_amends
    THEN
        SELECT t.input, t.cached_input, t.input + t.cached_input + t.output
        INTO v_input_amount, v_cached_amount, v_amount
        FROM farebox_take_tiers(
            e.organization_id, e.model_id, e.price_id,
            date_trunc('month', e.admitted_at AT TIME ZONE 'UTC')::date, v_input, v_cached, v_output, v_most
        ) AS t;
    ELSE
        v_input_amount := v_input * e.input_per_million * 0.000001;
        v_cached_amount := v_cached * e.cached_input_per_million * 0.000001;
        -- A class that shrank while another grew must not make the whole dearer than it is.
        v_amount := greatest(0, least(
            v_most,
            (
                v_input * e.input_per_million + v_cached * e.cached_input_per_million
                + v_output * e.output_per_million
            ) * 0.000001,
            (
                (p_input - e.input_tokens) * e.input_per_million
                + (p_cached - e.cached_input_tokens) * e.cached_input_per_million
                + (p_output - e.output_tokens) * e.output_per_million
            ) * 0.000001
        ));
    END IF;
    -- As in `farebox_settle`: what was capped pays for the input first, then for the cached input.
    v_input_amount := least(v_input_amount, v_amount);
    v_cached_amount := least(v_cached_amount, v_amount - v_input_amount);

    -- The one step that decides: a request is amended once.
    INSERT INTO usage_amendment (
        request_id, created_at, organization_id, project_id, api_key_id, model_id, status,
        input_tokens, cached_input_tokens, output_tokens,
        input_per_million, cached_input_per_million, output_per_million, amount, currency,
        input_amount, cached_input_amount
    )
    SELECT
        p_request, v_now, e.organization_id, e.project_id, e.api_key_id, e.model_id, p_status,
        v_input, v_cached, v_output,
        e.input_per_million, e.cached_input_per_million, e.output_per_million, v_amount, e.currency,
        v_input_amount, v_cached_amount
    WHERE v_amends
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'absent', e.amount + coalesce(
            (SELECT a.amount FROM usage_amendment a WHERE a.request_id = p_request), 0
        ), e.currency::text;
        RETURN;
    END IF;

    -- As in `farebox_settle`: promotional credit first, then what was paid in, then the credit line.
    SELECT f.promotional, f.prepaid INTO v_promotional, v_prepaid
    FROM meter_scope s CROSS JOIN LATERAL farebox_fund(s.balance, s.promotional, 0, v_amount) AS f
    WHERE s.id = e.organization_id;
    INSERT INTO ledger_transfer (
        id, organization_id, request_id, kind, debit_account, credit_account, amount, currency, reason,
        created_at
    )
    SELECT
        farebox_leg(p_request, 'amendment, ' || leg.account), e.organization_id, p_request, 'usage',
        leg.account, 'revenue:' || e.model_id, leg.amount, e.currency, 'amendment', v_now
    FROM (VALUES
        ('prepaid', v_prepaid), ('promotional', v_promotional),
        ('receivable', v_amount - v_prepaid - v_promotional)
    ) AS leg (account, amount)
    WHERE leg.amount > 0;
    INSERT INTO usage_hour AS u (
        organization_id, hour, project_id, api_key_id, model_id, currency,
        requests, input_tokens, cached_input_tokens, output_tokens,
        amount, input_amount, cached_input_amount
    ) VALUES (
        e.organization_id, date_trunc('hour', v_now, 'UTC'), e.project_id, e.api_key_id, e.model_id,
        e.currency, 0, v_input, v_cached, v_output, v_amount, v_input_amount, v_cached_amount
    )
    ON CONFLICT (organization_id, hour, project_id, api_key_id, model_id, currency) DO UPDATE
    SET
        input_tokens = u.input_tokens + excluded.input_tokens,
        cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens,
        amount = u.amount + excluded.amount,
        input_amount = u.input_amount + excluded.input_amount,
        cached_input_amount = u.cached_input_amount + excluded.cached_input_amount;
    INSERT INTO usage_minute AS u (
        organization_id, minute, project_id, api_key_id, model_id, currency,
        requests, input_tokens, cached_input_tokens, output_tokens, amount
    ) VALUES (
        e.organization_id, date_trunc('minute', v_now, 'UTC'), e.project_id, e.api_key_id, e.model_id,
        e.currency, 0, v_input, v_cached, v_output, v_amount
    )
    ON CONFLICT (organization_id, minute, project_id, api_key_id, model_id, currency) DO UPDATE
    SET
        input_tokens = u.input_tokens + excluded.input_tokens,
        cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens,
        amount = u.amount + excluded.amount;
    -- The sweep gave these tokens back to the bucket as unused.
    UPDATE meter_scope s
    SET
        token_level = s.token_level - (v_input::bigint + v_cached + v_output),
        spent = v_amount + CASE WHEN s.spend_month < v_month THEN 0 ELSE s.spent END,
        spend_month = greatest(s.spend_month, v_month),
        balance = s.balance - v_amount,
        promotional = s.promotional - CASE WHEN s.id = e.organization_id THEN v_promotional ELSE 0 END
    WHERE s.id IN (e.api_key_id, e.project_id, e.organization_id);
    RETURN QUERY SELECT 'amended', e.amount + v_amount, e.currency::text;
END $$;
