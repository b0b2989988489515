-- Renew the leases of all live requests of one server, and record what each has delivered so far: once a
-- second, one statement for all. If the server dies, a sweep settles its requests at these numbers, so
-- that at most the last second of a stream goes unbilled.
--
-- Returns the requests that still have a hold. The owner reserves again for those that lost theirs
-- (`farebox_rehold`).
--
-- Lock order: holds by request id, no scopes. Settling takes holds in the same order.
CREATE FUNCTION farebox_checkpoint(
    p_lease interval,
    -- One array a column, all of one length. Token classes are disjoint running totals.
    p_request uuid[],
    p_delivered boolean[],
    p_input integer[],
    p_cached integer[],
    p_output integer[]
) RETURNS SETOF uuid LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM 1 FROM hold WHERE request_id = ANY (p_request) ORDER BY request_id FOR UPDATE;
    -- The clock and not the transaction's start: a lease counts from when it was renewed.
    RETURN QUERY
    UPDATE hold h
    SET
        lease_expires_at = clock_timestamp() + p_lease,
        delivered = n.delivered,
        input_tokens = n.input,
        cached_input_tokens = n.cached,
        output_tokens = n.output
    FROM unnest(p_request, p_delivered, p_input, p_cached, p_output)
        AS n (request_id, delivered, input, cached, output)
    WHERE h.request_id = n.request_id
    RETURNING h.request_id;
END $$;
