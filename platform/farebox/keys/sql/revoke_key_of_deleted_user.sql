-- Trigger before a key loses its user, as it does when the user is deleted: the key is revoked. Else it
-- would look like one of the operator's, which have no user, and go on opening.
CREATE FUNCTION revoke_key_of_deleted_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revoked_at := coalesce(OLD.revoked_at, now());
    RETURN NEW;
END $$;
