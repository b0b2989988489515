-- What `p_tokens` of a class cost under a tiered price, when `p_from` of it were used in the month before.
--
-- graduated: each token costs what its own tier says. volume: all of them cost what the tier of the last one
-- says; those of before stay as they are until the month has ended. package: tokens are sold by the package, and
-- one that is begun is paid.
--
-- A tier holds from its first token beyond `starts_at` to the next tier's `starts_at`.
CREATE FUNCTION farebox_tier_cost(
    p_price uuid,
    p_class text,
    p_scheme text,
    p_package bigint,
    p_from bigint,
    p_tokens bigint
) RETURNS numeric LANGUAGE sql STABLE
AS $$
    WITH tier AS (
        SELECT t.starts_at, t.per_million, lead(t.starts_at) OVER (ORDER BY t.starts_at) AS ends_at
        FROM price_tier t WHERE t.price_id = p_price AND t.token_class = p_class
    )
    SELECT CASE p_scheme
        WHEN 'graduated' THEN (
            SELECT sum(greatest(
                least(p_from + p_tokens, t.ends_at) - greatest(p_from, t.starts_at), 0
            ) * t.per_million)
            FROM tier t
        )
        WHEN 'volume' THEN p_tokens * (
            SELECT t.per_million FROM tier t
            WHERE t.starts_at < greatest(p_from + p_tokens, 1) ORDER BY t.starts_at DESC LIMIT 1
        )
        WHEN 'package' THEN (
            SELECT (ceil((p_from + p_tokens)::numeric / p_package) - ceil(p_from::numeric / p_package))
                * p_package * max(t.per_million)
            FROM tier t
        )
    END * 0.000001
$$;
