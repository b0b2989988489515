-- Settle the given requests if their lease has run out: their server is dead, or cut off from Postgres.
-- What it recorded as delivered is billed as `interrupted`; a request that delivered nothing is voided.
--
-- Any replica may do so, several at once, too. Lock order: that of `farebox_settle`, which is told to pass
-- over a hold whose owner has renewed it since this function looked, and those of accounts that somebody
-- else keeps locked: there is a next sweep.
CREATE FUNCTION farebox_sweep(
    p_request uuid[]
) RETURNS TABLE (
    request_id uuid,
    outcome text,
    amount numeric
) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_request uuid[];
    v_status text[];
    v_input integer[];
    v_cached integer[];
    v_output integer[];
    v_unknown real[];
BEGIN
    SELECT
        array_agg(h.request_id),
        array_agg(CASE WHEN h.delivered THEN 'interrupted' ELSE 'void' END),
        array_agg(h.input_tokens),
        array_agg(h.cached_input_tokens),
        array_agg(h.output_tokens)
    INTO v_request, v_status, v_input, v_cached, v_output
    FROM hold h WHERE h.request_id = ANY (p_request) AND h.lease_expires_at < clock_timestamp();
    IF v_request IS NULL THEN
        RETURN;
    END IF;
    -- The engine's times died with the server.
    v_unknown := array_fill(NULL::real, ARRAY[cardinality(v_request)]);
    RETURN QUERY
    SELECT v_request[s.place], s.outcome, s.amount
    FROM farebox_settle(
        v_request, v_status, v_input, v_cached, v_output,
        v_unknown, v_unknown, v_unknown, v_unknown, v_unknown,
        -- A checkpoint tells of nothing but what was handed over.
        array_fill(true, ARRAY[cardinality(v_request)]), interval '0', true, true
    ) WITH ORDINALITY AS s (outcome, amount, currency, place)
    WHERE s.outcome IN ('settled', 'voided');
END $$;
