-- The price of a model that applies to an organization at a time: its contract's, else its plan's, else
-- everybody's. Of each the newest that has begun counts, unless it has ended. No row where there is none.
--
-- Asked apart, each is a look at an index.
CREATE FUNCTION applicable_price(
    p_model text,
    p_organization uuid,
    p_plan uuid,
    p_at timestamptz
) RETURNS SETOF price LANGUAGE sql STABLE
AS $$
    SELECT (newest.price).* FROM (
        (
            SELECT 1 AS rank, price FROM price
            WHERE price.model_id = p_model AND price.organization_id = p_organization
                AND price.plan_id IS NULL AND price.effective_from <= p_at
            ORDER BY price.effective_from DESC LIMIT 1
        ) UNION ALL (
            SELECT 2, price FROM price
            WHERE price.model_id = p_model AND price.organization_id IS NULL
                AND price.plan_id = p_plan AND price.effective_from <= p_at
            ORDER BY price.effective_from DESC LIMIT 1
        ) UNION ALL (
            SELECT 3, price FROM price
            WHERE price.model_id = p_model AND price.organization_id IS NULL
                AND price.plan_id IS NULL AND price.effective_from <= p_at
            ORDER BY price.effective_from DESC LIMIT 1
        )
    ) newest
    WHERE (newest.price).effective_until IS NULL OR (newest.price).effective_until > p_at
    ORDER BY newest.rank LIMIT 1
$$;
