-- Settle requests of which `farebox_settle` found no hold: reserve what they came to, as far as balance
-- and caps reach, and settle that. What they no longer hold stays unpaid, since nothing had reserved it.
--
-- One that was settled before gets no hold from `farebox_rehold`, hence is absent again: a bill whose
-- answer got lost is not sent twice. If it was a sweep that settled it, it is amended by what it lacks.
-- Outcomes: those of `farebox_settle`, and `amended`. Of an absent one the amount is what it came to before.
--
-- Lock order: that of the three functions, without waiting: what somebody else keeps locked is `contended`.
-- The scopes stay locked from the first to the last.
CREATE FUNCTION farebox_settle_late(
    -- The terms of admission, as for `farebox_rehold`.
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
    -- What admission reserved: the payer agreed to no more.
    p_reserved numeric[],
    p_items integer[],
    -- What the requests came to, as for `farebox_settle`.
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
    p_handed_over boolean[],
    p_lease interval
) RETURNS TABLE (
    outcome text,
    amount numeric,
    currency text
) LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
    v_contended uuid[];
    r record;
BEGIN
    -- The owner is of no account: the hold lives only until the next statement.
    SELECT array_agg(h.request_id) FILTER (WHERE h.outcome = 'contended') INTO v_contended
    FROM farebox_rehold(
        p_request[1], interval '0', p_organization, p_project, p_key, p_model, p_price,
        p_input_price, p_cached_price, p_output_price, p_currency, p_admitted, p_request,
        (
            SELECT array_agg(n.input + n.cached + n.output ORDER BY n.place)
            FROM unnest(p_input::bigint[], p_cached::bigint[], p_output::bigint[]) WITH ORDINALITY
                AS n (input, cached, output, place)
        ),
        (
            -- Where a tier's edge lies between, what they come to is told only when it is taken.
            SELECT array_agg(
                CASE WHEN p.scheme = 'flat' THEN least(n.reserved, (
                    n.input * n.input_price + n.cached * n.cached_price + n.output * n.output_price
                    + n.items * p.item_per_million
                ) * 0.000001) ELSE n.reserved END
                ORDER BY n.place
            )
            FROM unnest(
                p_input, p_cached, p_output, p_input_price, p_cached_price, p_output_price, p_reserved,
                p_items, p_price
            ) WITH ORDINALITY AS n (
                input, cached, output, input_price, cached_price, output_price, reserved, items, price_id,
                place
            )
            JOIN price p ON p.id = n.price_id
        ),
        p_items
    ) AS h;
    FOR r IN
        SELECT n.*, s.outcome, s.amount, s.currency
        FROM farebox_settle(
            p_request, p_status, p_input, p_cached, p_output, p_queue, p_prefill, p_decode, p_first, p_device,
            p_handed_over, p_lease, false, true
        ) WITH ORDINALITY AS s (outcome, amount, currency, place)
        JOIN unnest(p_request, p_status, p_input, p_cached, p_output, p_reserved) WITH ORDINALITY
            AS n (request_id, status, input, cached, output, reserved, place) ON n.place = s.place
        ORDER BY n.place
    LOOP
        IF r.request_id = ANY (v_contended) THEN
            RETURN QUERY SELECT 'contended', NULL::numeric, NULL::text;
        ELSIF r.outcome = 'absent' THEN
            RETURN QUERY
            SELECT * FROM farebox_amend(r.request_id, r.status, r.input, r.cached, r.output, r.reserved);
        ELSE
            outcome := r.outcome;
            amount := r.amount;
            currency := r.currency;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;
