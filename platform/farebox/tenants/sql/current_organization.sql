-- The organization that the transaction acts for, set by `Database.transaction`; NULL, which equals
-- nothing, when none is. Every tenant table's policy asks it.
CREATE FUNCTION current_organization() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('farebox.organization_id', true), '')::uuid $$;
