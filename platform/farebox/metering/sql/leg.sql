-- The id of the transfer by which an account pays for a request, or is paid back: it is made from both, so that
-- none is written twice. What was paid in pays under the request's own id. What is booked later of the same
-- request says so in `p_account`.
CREATE FUNCTION farebox_leg(p_request uuid, p_account text) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE p_account WHEN 'prepaid' THEN p_request ELSE md5(p_request::text || ':' || p_account)::uuid END
$$;
