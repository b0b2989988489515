-- Reserve again for requests that were admitted and whose hold is gone: a crash of Postgres took it
-- before it was on disk, or a sweep voided it while its owner could not reach Postgres. Nobody but the
-- owner would know of the request else, and it could end unbilled.
--
-- Returns the requests that have a hold again (`restored`), and those whose scopes somebody else keeps locked
-- (`contended`: to be asked again). Of the others, one that has an event was settled meanwhile and stays so;
-- one that has a hold needs none.
--
-- Lock order: scope rows by id, without waiting. With them locked nobody can settle these requests.
CREATE FUNCTION farebox_rehold(
    p_owner uuid,
    p_lease interval,
    -- The terms of admission: whose request, and at which price. One array a column, all of one length.
    p_organization uuid[],
    p_project uuid[],
    p_key uuid[],
    p_model text[],
    p_price uuid[],
    p_input_price numeric[],
    p_cached_price numeric[],
    p_output_price numeric[],
    p_currency text[],
    p_admitted timestamptz[],
    -- What to reserve for each.
    p_request uuid[],
    p_tokens bigint[],
    p_amount numeric[],
    p_items integer[]
) RETURNS TABLE (
    request_id uuid,
    outcome text
) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_month date;
    v_scopes uuid[];
    v_amount numeric;
    r record;
BEGIN
    -- Whoever settles a request holds these rows: none can do so between our look and our insert.
    v_scopes := ARRAY(
        SELECT id FROM meter_scope WHERE id = ANY (p_key || p_project || p_organization)
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    );
    v_month := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC');
    FOR r IN
        SELECT * FROM unnest(
            p_organization, p_project, p_key, p_model, p_price,
            p_input_price, p_cached_price, p_output_price, p_currency,
            p_admitted, p_request, p_tokens, p_amount, p_items
        ) AS n (
            organization_id, project_id, key_id, model_id, price_id,
            input_price, cached_price, output_price, currency,
            admitted_at, request_id, tokens, amount, items
        )
        ORDER BY request_id
    LOOP
        request_id := r.request_id;
        IF NOT ARRAY[r.key_id, r.project_id, r.organization_id] <@ v_scopes THEN
            outcome := 'contended';
            RETURN NEXT;
            CONTINUE;
        END IF;
        CONTINUE WHEN EXISTS (SELECT FROM usage_event e WHERE e.request_id = r.request_id)
            OR EXISTS (SELECT FROM hold h WHERE h.request_id = r.request_id);
        -- What was reserved is free since, and others may have taken it: no more than is left.
        SELECT greatest(0, least(
            r.amount,
            min(s.balance + s.credit_line - s.reserved),
            min(s.monthly_cap - s.reserved - CASE WHEN s.spend_month < v_month THEN 0 ELSE s.spent END)
        )) INTO v_amount
        FROM meter_scope s WHERE s.id IN (r.key_id, r.project_id, r.organization_id);
        INSERT INTO hold
        SELECT
            r.request_id, p_owner, r.organization_id, r.project_id, r.key_id, r.model_id, r.price_id,
            r.input_price, r.cached_price, r.output_price, r.currency,
            r.tokens, v_amount, r.admitted_at, clock_timestamp() + p_lease, false, 0, 0, 0,
            r.items, p.item_per_million, p.scheme <> 'flat', r.tokens
        FROM price p WHERE p.id = r.price_id;
        -- Neither buckets nor concurrency refuse here: the request is running.
        -- The tokens are taken once more: the sweep gave them back, or the taking was lost with the hold.
        UPDATE meter_scope s
        SET active = s.active + 1, reserved = s.reserved + v_amount, token_level = s.token_level - r.tokens
        WHERE s.id IN (r.key_id, r.project_id, r.organization_id);
        outcome := 'restored';
        RETURN NEXT;
    END LOOP;
END $$;
