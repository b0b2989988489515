"""Whoever leaves takes their keys along; what nobody confirmed may be removed; scopes open empty."""

from alembic import op

from farebox.core.sql import statements

revision = "0009"
down_revision = "0008"

# In the database, so that no way of removing a person can forget it.
KEYS = """
CREATE FUNCTION revoke_keys_of_former_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE api_key SET revoked_at = now()
    WHERE organization_id = OLD.organization_id AND user_id = OLD.user_id AND revoked_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER revoke_keys AFTER DELETE ON membership
    FOR EACH ROW EXECUTE FUNCTION revoke_keys_of_former_member();

-- Deleting a user sets their keys' user_id to NULL, by which an operator's keys are known.
CREATE FUNCTION revoke_key_of_deleted_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revoked_at := coalesce(OLD.revoked_at, now());
    RETURN NEW;
END $$;
CREATE TRIGGER revoke_with_user BEFORE UPDATE OF user_id ON api_key
    FOR EACH ROW WHEN (OLD.user_id IS NOT NULL AND NEW.user_id IS NULL)
    EXECUTE FUNCTION revoke_key_of_deleted_user();
"""

SWEEPING = """
GRANT DELETE ON app_user, organization TO farebox_meter;
-- A row can be locked by whoever may update one of its columns.
GRANT UPDATE (name) ON app_user, organization TO farebox_meter;
GRANT UPDATE (revoked_at) ON api_key TO farebox_meter;
CREATE POLICY only_unused ON organization AS RESTRICTIVE FOR DELETE TO farebox_meter
    USING (
        NOT EXISTS (SELECT FROM ledger_transfer t WHERE t.organization_id = organization.id)
        AND NOT EXISTS (SELECT FROM usage_hour u WHERE u.organization_id = organization.id)
        AND NOT EXISTS (SELECT FROM hold h WHERE h.organization_id = organization.id)
    );
"""

SCOPES = """
CREATE POLICY opens_empty ON meter_scope AS RESTRICTIVE FOR INSERT TO farebox_app
    WITH CHECK (coalesce(balance, 0) = 0);
"""


def upgrade() -> None:
    for script in (KEYS, SWEEPING, SCOPES):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP POLICY opens_empty ON meter_scope")
    op.execute("DROP POLICY only_unused ON organization")
    op.execute("REVOKE UPDATE (revoked_at) ON api_key FROM farebox_meter")
    op.execute("REVOKE UPDATE (name) ON app_user, organization FROM farebox_meter")
    op.execute("REVOKE DELETE ON app_user, organization FROM farebox_meter")
    op.execute("DROP TRIGGER revoke_with_user ON api_key")
    op.execute("DROP TRIGGER revoke_keys ON membership")
    op.execute("DROP FUNCTION revoke_key_of_deleted_user, revoke_keys_of_former_member")
