-- Which accounts pay for usage of an organization, after so much of it was paid: promotional credit first, then
-- what was paid in. The rest of the amount is drawn on the credit line, hence receivable.
--
-- `p_balance` is promotional credit and what was paid in, less what is receivable.
CREATE FUNCTION farebox_fund(
    p_balance numeric,
    p_promotional numeric,
    p_before numeric,
    p_amount numeric,
    OUT promotional numeric,
    OUT prepaid numeric
) LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT f.promotional, least(
        p_amount - f.promotional,
        greatest(p_balance - p_promotional - greatest(p_before - p_promotional, 0), 0)
    )
    FROM (SELECT least(p_amount, greatest(p_promotional - p_before, 0)) AS promotional) f
$$;
