-- The address that somebody signs up or in with, set by `Database.transaction`; NULL when none is. By it an
-- account is found before anybody is known.
CREATE FUNCTION current_email() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('farebox.email', true), '') $$;
