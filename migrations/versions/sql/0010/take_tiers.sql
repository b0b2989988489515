-- Use tokens at a tiered price: what each class costs, and how far the month had come before.
--
-- The month is that in which the request was admitted. Its count goes on through changes of price. Tokens that
-- are credited later stay counted. Where a volume price has become cheaper for the whole month, what was paid
-- too much is owed: what follows costs nothing until it is used up, and the month's end pays out the rest.
--
-- The caller has the organization's scope locked.
CREATE FUNCTION farebox_take_tiers(
    p_organization uuid,
    p_model text,
    p_price uuid,
    p_month date,
    p_input bigint,
    p_cached bigint,
    p_output bigint
) RETURNS tier_charge LANGUAGE plpgsql
AS $$
DECLARE
    v_charge tier_charge;
    v_before tier_usage;
    v_price price;
BEGIN
    SELECT * INTO v_before FROM tier_usage u
    WHERE u.organization_id = p_organization AND u.model_id = p_model AND u.month = p_month;
    IF NOT FOUND THEN
        -- The first of a month finds what was used of it at prices without tiers.
        INSERT INTO tier_usage (
            organization_id, model_id, month, input_tokens, cached_input_tokens, output_tokens
        )
        SELECT
            p_organization, p_model, p_month, coalesce(sum(h.input_tokens), 0),
            coalesce(sum(h.cached_input_tokens), 0), coalesce(sum(h.output_tokens), 0)
        FROM usage_hour h
        WHERE h.organization_id = p_organization AND h.model_id = p_model
            AND h.hour >= p_month::timestamp AT TIME ZONE 'UTC'
            AND h.hour < (p_month + interval '1 month') AT TIME ZONE 'UTC'
        RETURNING * INTO v_before;
    END IF;
    SELECT * INTO v_price FROM price p WHERE p.id = p_price;
    v_charge.used := ARRAY[
        v_before.input_tokens, v_before.cached_input_tokens, v_before.output_tokens
    ];
    v_charge.input := v_before.input_owed + farebox_tier_cost(
        p_price, 'input', v_price.scheme, v_price.package_tokens, v_before.input_tokens, p_input
    );
    v_charge.cached_input := v_before.cached_input_owed + farebox_tier_cost(
        p_price, 'cached_input', v_price.scheme, v_price.package_tokens, v_before.cached_input_tokens, p_cached
    );
    v_charge.output := v_before.output_owed + farebox_tier_cost(
        p_price, 'output', v_price.scheme, v_price.package_tokens, v_before.output_tokens, p_output
    );
    UPDATE tier_usage u
    SET
        input_tokens = u.input_tokens + p_input,
        cached_input_tokens = u.cached_input_tokens + p_cached,
        output_tokens = u.output_tokens + p_output,
        input_owed = least(v_charge.input, 0),
        cached_input_owed = least(v_charge.cached_input, 0),
        output_owed = least(v_charge.output, 0)
    WHERE u.organization_id = p_organization AND u.model_id = p_model AND u.month = p_month;
    v_charge.input := greatest(v_charge.input, 0);
    v_charge.cached_input := greatest(v_charge.cached_input, 0);
    v_charge.output := greatest(v_charge.output, 0);
    RETURN v_charge;
END $$;
