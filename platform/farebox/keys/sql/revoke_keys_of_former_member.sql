-- Trigger after a membership's deletion: the keys that the person held in the organization end with it.
-- In the database, so that no way of removing a person can forget it.
CREATE FUNCTION revoke_keys_of_former_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE api_key SET revoked_at = now()
    WHERE organization_id = OLD.organization_id AND user_id = OLD.user_id AND revoked_at IS NULL;
    RETURN NULL;
END $$;
