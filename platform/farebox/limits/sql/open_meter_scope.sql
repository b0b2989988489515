-- Trigger after a new organization, project or key: its scope, under the same id, without limits of its
-- own. Only an organization's has a balance, and that begins empty.
CREATE FUNCTION open_meter_scope() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_ARGV[0] = 'organization' THEN
        INSERT INTO meter_scope (id, organization_id, kind, balance) VALUES (NEW.id, NEW.id, TG_ARGV[0], 0);
    ELSE
        INSERT INTO meter_scope (id, organization_id, kind) VALUES (NEW.id, NEW.organization_id, TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;
