-- Give back what was billed for whole answers that nobody got: their client had left by the time that they
-- were settled, or their server died between that and their way out.
--
-- The event stays as it was. The credit is an amendment that takes all of it back (status `undelivered`), with a
-- transfer and a place in the sums of its own. Once for each request: deleting its row of `handover` is
-- the one step that decides. Returns what was credited.
--
-- Lock order: scope rows by id, without waiting (what somebody else keeps locked is left for the next time);
-- then `handover` by request id.
CREATE FUNCTION farebox_credit(
    p_request uuid[]
) RETURNS TABLE (
    request_id uuid,
    amount numeric
) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_scopes uuid[];
    v_promotional numeric;
    v_prepaid numeric;
    v_receivable numeric;
    e record;
BEGIN
    v_scopes := ARRAY(
        SELECT s.id FROM meter_scope s WHERE s.id IN (
            SELECT scope.id FROM usage_event u
            CROSS JOIN LATERAL (VALUES (u.api_key_id), (u.project_id), (u.organization_id)) AS scope (id)
            WHERE u.request_id = ANY (p_request)
        ) ORDER BY s.id FOR NO KEY UPDATE SKIP LOCKED
    );
    PERFORM 1 FROM handover WHERE request_id = ANY (p_request) ORDER BY request_id FOR UPDATE;
    v_now := clock_timestamp();
    FOR e IN
        DELETE FROM handover h USING usage_event u
        WHERE h.request_id = ANY (p_request) AND u.request_id = h.request_id
            AND ARRAY[u.api_key_id, u.project_id, u.organization_id] <@ v_scopes
        RETURNING u.*
    LOOP
        INSERT INTO usage_amendment (
            request_id, created_at, organization_id, project_id, api_key_id, model_id, status,
            input_tokens, cached_input_tokens, output_tokens,
            input_per_million, cached_input_per_million, output_per_million, amount, currency,
            items, input_amount, cached_input_amount, item_amount
        ) VALUES (
            e.request_id, v_now, e.organization_id, e.project_id, e.api_key_id, e.model_id, 'undelivered',
            -e.input_tokens, -e.cached_input_tokens, -e.output_tokens,
            e.input_per_million, e.cached_input_per_million, e.output_per_million, -e.amount, e.currency,
            -e.items, -e.input_amount, -e.cached_input_amount, -e.item_amount
        );
        -- Back to the accounts that paid.
        WITH paid AS (
            SELECT t.debit_account AS account, t.amount FROM ledger_transfer t WHERE t.id = ANY (ARRAY[
                farebox_leg(e.request_id, 'prepaid'),
                farebox_leg(e.request_id, 'promotional'),
                farebox_leg(e.request_id, 'receivable')
            ])
        ),
        transfers AS (
            INSERT INTO ledger_transfer (
                id, organization_id, request_id, kind, debit_account, credit_account, amount, currency, reason,
                created_at
            )
            SELECT
                farebox_leg(e.request_id, 'credit, ' || account), e.organization_id, e.request_id,
                'adjustment', 'revenue:' || e.model_id, account, amount, e.currency, 'undelivered', v_now
            FROM paid
        )
        SELECT
            coalesce(sum(amount) FILTER (WHERE account = 'promotional'), 0),
            coalesce(sum(amount) FILTER (WHERE account = 'prepaid'), 0),
            coalesce(sum(amount) FILTER (WHERE account = 'receivable'), 0)
        INTO v_promotional, v_prepaid, v_receivable FROM paid;
        -- Paid money that comes back settles what was drawn on the credit line meanwhile; what comes back of the
        -- line after it was paid off is paid money.
        INSERT INTO ledger_transfer (
            id, organization_id, request_id, kind, debit_account, credit_account, amount, currency, reason,
            created_at
        )
        SELECT
            farebox_leg(e.request_id, 'credit, application'), e.organization_id, e.request_id, 'application',
            CASE WHEN p.open > 0 THEN 'prepaid' ELSE 'receivable' END,
            CASE WHEN p.open > 0 THEN 'receivable' ELSE 'prepaid' END,
            CASE WHEN p.open > 0 THEN least(v_prepaid, p.open) ELSE -p.open END,
            e.currency, 'undelivered', v_now
        FROM meter_scope s
        CROSS JOIN LATERAL (SELECT greatest(s.promotional - s.balance, 0) - v_receivable AS open) p
        WHERE s.id = e.organization_id AND (p.open < 0 OR p.open > 0 AND v_prepaid > 0);
        -- Its tokens do not count for the month's tiers.
        IF e.tiers_from IS NOT NULL THEN
            UPDATE tier_usage u
            SET
                input_tokens = u.input_tokens - e.input_tokens,
                cached_input_tokens = u.cached_input_tokens - e.cached_input_tokens,
                output_tokens = u.output_tokens - e.output_tokens,
                billed = u.billed - (e.amount - e.item_amount)
            WHERE u.organization_id = e.organization_id AND u.model_id = e.model_id
                AND u.month = date_trunc('month', e.admitted_at AT TIME ZONE 'UTC')::date
                AND u.price_id = e.price_id;
        END IF;
        INSERT INTO usage_hour AS u (
            organization_id, hour, project_id, api_key_id, model_id, currency,
            requests, input_tokens, cached_input_tokens, output_tokens,
            amount, input_amount, cached_input_amount, items, item_amount
        ) VALUES (
            e.organization_id, date_trunc('hour', v_now, 'UTC'), e.project_id, e.api_key_id, e.model_id,
            e.currency, 0, -e.input_tokens, -e.cached_input_tokens, -e.output_tokens,
            -e.amount, -e.input_amount, -e.cached_input_amount, -e.items, -e.item_amount
        )
        ON CONFLICT (organization_id, hour, project_id, api_key_id, model_id, currency) DO UPDATE
        SET
            input_tokens = u.input_tokens + excluded.input_tokens,
            cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            amount = u.amount + excluded.amount,
            input_amount = u.input_amount + excluded.input_amount,
            cached_input_amount = u.cached_input_amount + excluded.cached_input_amount,
            items = u.items + excluded.items,
            item_amount = u.item_amount + excluded.item_amount;
        INSERT INTO usage_minute AS u (
            organization_id, minute, project_id, api_key_id, model_id, currency,
            requests, input_tokens, cached_input_tokens, output_tokens, amount
        ) VALUES (
            e.organization_id, date_trunc('minute', v_now, 'UTC'), e.project_id, e.api_key_id, e.model_id,
            e.currency, 0, -e.input_tokens, -e.cached_input_tokens, -e.output_tokens, -e.amount
        )
        ON CONFLICT (organization_id, minute, project_id, api_key_id, model_id, currency) DO UPDATE
        SET
            input_tokens = u.input_tokens + excluded.input_tokens,
            cached_input_tokens = u.cached_input_tokens + excluded.cached_input_tokens,
            output_tokens = u.output_tokens + excluded.output_tokens,
            amount = u.amount + excluded.amount;
        UPDATE meter_scope s
        SET
            token_level = s.token_level + e.input_tokens + e.cached_input_tokens + e.output_tokens,
            -- Of the month in which it was billed, if that still is the one that counts.
            spent = s.spent - CASE
                WHEN s.spend_month = date_trunc('month', e.created_at AT TIME ZONE 'UTC')::date THEN e.amount
                ELSE 0
            END,
            balance = s.balance + e.amount,
            promotional = s.promotional + CASE WHEN s.id = e.organization_id THEN v_promotional ELSE 0 END
        WHERE s.id IN (e.api_key_id, e.project_id, e.organization_id);
        request_id := e.request_id;
        amount := e.amount;
        RETURN NEXT;
    END LOOP;
END $$;
