-- Use tokens at a tiered price: what each class costs, and how far the month had come before.
--
-- The month is that in which the request was admitted. Its count goes on from one tiered price to the next;
-- what is used at a flat price does not count. Tokens that are credited later stay counted.
--
-- What is owed is carried to the next request, and settled when the month has ended. It is negative where a
-- volume price has become cheaper for the whole month: what follows costs nothing until it is used up. It is
-- positive where a request came to more than was reserved for it (`p_most`), since another one that was
-- admitted later had used up a cheap tier before it.
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
    v_due tier_charge;
    v_before tier_usage;
    v_price price;
BEGIN
    INSERT INTO tier_usage (organization_id, model_id, month, input_tokens, cached_input_tokens, output_tokens)
    VALUES (p_organization, p_model, p_month, 0, 0, 0)
    ON CONFLICT DO NOTHING;
    SELECT * INTO v_before FROM tier_usage u
    WHERE u.organization_id = p_organization AND u.model_id = p_model AND u.month = p_month;
    SELECT * INTO v_price FROM price p WHERE p.id = p_price;
    v_charge.used := ARRAY[
        v_before.input_tokens, v_before.cached_input_tokens, v_before.output_tokens
    ];
    v_due.input := v_before.input_owed + farebox_tier_cost(
        p_price, 'input', v_price.scheme, v_price.package_tokens, v_before.input_tokens, p_input
    );
    v_due.cached_input := v_before.cached_input_owed + farebox_tier_cost(
        p_price, 'cached_input', v_price.scheme, v_price.package_tokens, v_before.cached_input_tokens, p_cached
    );
    v_due.output := v_before.output_owed + farebox_tier_cost(
        p_price, 'output', v_price.scheme, v_price.package_tokens, v_before.output_tokens, p_output
    );
    v_charge.input := least(greatest(v_due.input, 0), p_most);
    v_charge.cached_input := least(greatest(v_due.cached_input, 0), p_most - v_charge.input);
    v_charge.output := least(greatest(v_due.output, 0), p_most - v_charge.input - v_charge.cached_input);
    UPDATE tier_usage u
    SET
        input_tokens = u.input_tokens + p_input,
        cached_input_tokens = u.cached_input_tokens + p_cached,
        output_tokens = u.output_tokens + p_output,
        input_owed = v_due.input - v_charge.input,
        cached_input_owed = v_due.cached_input - v_charge.cached_input,
        output_owed = v_due.output - v_charge.output
    WHERE u.organization_id = p_organization AND u.model_id = p_model AND u.month = p_month;
    RETURN v_charge;
END $$;
