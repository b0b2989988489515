-- Use tokens at a tiered price: what each class costs, and how many of it the month had before.
--
-- A price's tiers begin with the price, and anew in each month: that in which the request was admitted. No
-- more is charged than was reserved (`p_most`). At a volume price all tokens of the request cost what the tier
-- costs that its last one reaches. What the month came to beyond its tariff is paid back when it has ended
-- (`farebox.billing.tier_rebates`).
--
-- The caller has the organization's scope locked.
CREATE FUNCTION farebox_take_tiers(
    p_organization uuid,
    p_model text,
    p_price uuid,
    p_month date,
    p_input bigint,
    p_cached bigint,
    p_output bigint,
    p_most numeric
) RETURNS tier_charge LANGUAGE plpgsql
AS $$
DECLARE
    v_charge tier_charge;
    v_before tier_usage;
    v_price price;
    v_most numeric := greatest(p_most, 0);
BEGIN
    INSERT INTO tier_usage (organization_id, model_id, month, price_id)
    VALUES (p_organization, p_model, p_month, p_price)
    ON CONFLICT DO NOTHING;
    SELECT * INTO v_before FROM tier_usage u
    WHERE u.organization_id = p_organization AND u.model_id = p_model AND u.month = p_month
        AND u.price_id = p_price;
    SELECT * INTO v_price FROM price p WHERE p.id = p_price;
    v_charge.used := ARRAY[
        v_before.input_tokens, v_before.cached_input_tokens, v_before.output_tokens
    ];
    v_charge.input := least(v_most, farebox_tier_cost(
        p_price, 'input', v_price.scheme, v_price.package_tokens, v_before.input_tokens, p_input
    ));
    v_charge.cached_input := least(v_most - v_charge.input, farebox_tier_cost(
        p_price, 'cached_input', v_price.scheme, v_price.package_tokens, v_before.cached_input_tokens, p_cached
    ));
    v_charge.output := least(v_most - v_charge.input - v_charge.cached_input, farebox_tier_cost(
        p_price, 'output', v_price.scheme, v_price.package_tokens, v_before.output_tokens, p_output
    ));
    UPDATE tier_usage u
    SET
        input_tokens = u.input_tokens + p_input,
        cached_input_tokens = u.cached_input_tokens + p_cached,
        output_tokens = u.output_tokens + p_output,
        billed = u.billed + v_charge.input + v_charge.cached_input + v_charge.output
    WHERE u.organization_id = p_organization AND u.model_id = p_model AND u.month = p_month
        AND u.price_id = p_price;
    RETURN v_charge;
END $$;
