-- The dearest rate that a tiered price can charge for the next `p_span` tokens of each class, after what was used
-- in the month: what admission reserves at where there is no money for the dearest of all its tiers. `slack` is
-- what begun packages can cost beyond.
CREATE FUNCTION farebox_tier_rates(
    p_price uuid,
    p_organization uuid,
    p_model text,
    p_month date,
    p_span bigint,
    OUT input numeric,
    OUT cached_input numeric,
    OUT output numeric,
    OUT slack numeric
) LANGUAGE sql STABLE
AS $$
    SELECT
        coalesce(max(t.per_million) FILTER (WHERE t.token_class = 'input'), 0),
        coalesce(max(t.per_million) FILTER (WHERE t.token_class = 'cached_input'), 0),
        coalesce(max(t.per_million) FILTER (WHERE t.token_class = 'output'), 0),
        coalesce(sum(t.per_million) FILTER (WHERE t.scheme = 'package') * max(t.package_tokens), 0) * 0.000001
    FROM (
        SELECT
            t.token_class, t.per_million, p.scheme, p.package_tokens, t.starts_at,
            lead(t.starts_at) OVER (PARTITION BY t.token_class ORDER BY t.starts_at) AS ends_at,
            coalesce(CASE t.token_class
                WHEN 'input' THEN u.input_tokens
                WHEN 'cached_input' THEN u.cached_input_tokens
                ELSE u.output_tokens
            END, 0) AS used
        FROM price_tier t
        JOIN price p ON p.id = t.price_id
        LEFT JOIN tier_usage u
            ON u.organization_id = p_organization AND u.model_id = p_model AND u.month = p_month
            AND u.price_id = p.id
        WHERE t.price_id = p_price
    ) t
    WHERE t.starts_at < t.used + p_span AND (t.ends_at IS NULL OR t.ends_at > t.used)
$$;
