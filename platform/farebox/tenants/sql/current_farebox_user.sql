-- The person that the transaction acts for, set by `Database.transaction`; NULL when none is. By it people
-- see their own memberships before they have chosen an organization.
CREATE FUNCTION current_farebox_user() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('farebox.user_id', true), '')::uuid $$;
