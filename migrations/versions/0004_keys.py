"""API keys, which end with their holder's membership, and the keys that sign them."""

from alembic import op

from farebox.core.sql import statements

revision = "0004_keys"
down_revision = "0003_auth"

TABLES = """
CREATE TABLE api_key (
    id uuid CONSTRAINT pk_api_key PRIMARY KEY,
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    user_id uuid CONSTRAINT fk_api_key_user_id REFERENCES app_user ON DELETE SET NULL,
    service_account_id uuid,
    name text NOT NULL,
    token_sha256 bytea NOT NULL,
    last_four text NOT NULL,
    scopes text[] NOT NULL,
    models text[],
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    last_used_at timestamptz,
    CONSTRAINT uq_api_key_token_sha256 UNIQUE (token_sha256),
    CONSTRAINT fk_api_key_organization_id FOREIGN KEY (organization_id, project_id)
        REFERENCES project (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT fk_api_key_service_account_id FOREIGN KEY (organization_id, service_account_id)
        REFERENCES service_account (organization_id, id) ON DELETE CASCADE,
    CONSTRAINT ck_api_key_token_sha256_length CHECK (length(token_sha256) = 32)
);
CREATE INDEX ix_api_key_organization_id ON api_key (organization_id, project_id);

CREATE TABLE signing_key (
    kid text CONSTRAINT pk_signing_key PRIMARY KEY,
    purpose text NOT NULL,
    public_key bytea NOT NULL,
    private_key_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    CONSTRAINT ck_signing_key_purpose CHECK (purpose IN ('api_key', 'receipt'))
);
"""

# In the database, so that no way of removing a person can forget it.
DEPARTURES = """
CREATE FUNCTION revoke_keys_of_former_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE api_key SET revoked_at = now()
    WHERE organization_id = OLD.organization_id AND user_id = OLD.user_id AND revoked_at IS NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER revoke_keys AFTER DELETE ON membership
    FOR EACH ROW EXECUTE FUNCTION revoke_keys_of_former_member();

CREATE FUNCTION revoke_key_of_deleted_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revoked_at := coalesce(OLD.revoked_at, now());
    RETURN NEW;
END $$;
-- Deleting a user sets their keys' user_id to NULL, by which an operator's keys are known.
CREATE TRIGGER revoke_with_user BEFORE UPDATE OF user_id ON api_key
    FOR EACH ROW WHEN (OLD.user_id IS NOT NULL AND NEW.user_id IS NULL)
    EXECUTE FUNCTION revoke_key_of_deleted_user();
"""

POLICIES = """
ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON api_key TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON api_key TO farebox_meter USING (true) WITH CHECK (true);
"""

GRANTS = """
GRANT SELECT ON api_key, signing_key TO farebox_app;
GRANT INSERT (
    id, organization_id, project_id, user_id, service_account_id, name, token_sha256, last_four, scopes,
    models, expires_at, revoked_at, last_used_at
) ON api_key TO farebox_app;
GRANT UPDATE (name, scopes, models, expires_at, revoked_at, last_used_at) ON api_key TO farebox_app;
GRANT SELECT ON api_key TO farebox_meter;
GRANT UPDATE (models, last_used_at, revoked_at) ON api_key TO farebox_meter;
GRANT INSERT (kid, purpose, public_key, private_key_sealed, retired_at),
    UPDATE (private_key_sealed, retired_at) ON signing_key TO farebox_app;
"""


def upgrade() -> None:
    for script in (TABLES, DEPARTURES, POLICIES, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER revoke_keys ON membership")
    op.execute("DROP TABLE signing_key, api_key")
    op.execute("DROP FUNCTION revoke_key_of_deleted_user, revoke_keys_of_former_member")
