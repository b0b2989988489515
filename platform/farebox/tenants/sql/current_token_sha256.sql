-- The digest of the session's or mailed link's token that was shown, set by `Database.transaction`; NULL when
-- none was. By it a session or a link is found, and its person, before anybody is known.
CREATE FUNCTION current_token_sha256() RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT decode(nullif(current_setting('farebox.token_sha256', true), ''), 'hex') $$;
