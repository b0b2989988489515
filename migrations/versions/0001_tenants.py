"""Organizations, projects, people, keys; the application's roles; row-level security."""

from alembic import op

from farebox.core.sql import statements

revision = "0001"
down_revision = None

ROLES = """
DO $$
DECLARE
    role_name text;
    -- From Postgres 16 on, whoever creates a role is its member without the right to become it.
    needed text := CASE WHEN current_setting('server_version_num')::integer < 160000 THEN 'MEMBER'
        ELSE 'SET' END;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['farebox_app', 'farebox_meter'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', role_name);
        END IF;
        IF NOT pg_has_role(current_user, role_name, needed) THEN
            EXECUTE format('GRANT %I TO %I', role_name, current_user);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', role_name);
    END LOOP;
END $$
"""

CONTEXT = """
CREATE FUNCTION current_organization() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('farebox.organization_id', true), '')::uuid $$;

CREATE FUNCTION current_farebox_user() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('farebox.user_id', true), '')::uuid $$;
"""

TABLES = """
CREATE TABLE organization (
    id uuid CONSTRAINT pk_organization PRIMARY KEY,
    name text NOT NULL,
    status text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_organization_status CHECK (status IN ('active', 'suspended'))
);

CREATE TABLE app_user (
    id uuid CONSTRAINT pk_app_user PRIMARY KEY,
    email text NOT NULL CONSTRAINT uq_app_user_email UNIQUE,
    name text NOT NULL,
    password_hash text NOT NULL,
    email_verified_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT ck_app_user_email_lower CHECK (email = lower(email))
);

CREATE TABLE membership (
    organization_id uuid NOT NULL
        CONSTRAINT fk_membership_organization_id REFERENCES organization ON DELETE CASCADE,
    user_id uuid NOT NULL CONSTRAINT fk_membership_user_id REFERENCES app_user ON DELETE CASCADE,
    role text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_membership PRIMARY KEY (organization_id, user_id),
    CONSTRAINT ck_membership_role CHECK (role IN ('owner', 'admin', 'member'))
);
CREATE INDEX ix_membership_user_id ON membership (user_id);

CREATE TABLE project (
    id uuid CONSTRAINT pk_project PRIMARY KEY,
    organization_id uuid NOT NULL
        CONSTRAINT fk_project_organization_id REFERENCES organization ON DELETE CASCADE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,
    CONSTRAINT uq_project_organization_id UNIQUE (organization_id, id)
);

CREATE TABLE service_account (
    id uuid CONSTRAINT pk_service_account PRIMARY KEY,
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_service_account_organization_id UNIQUE (organization_id, id),
    CONSTRAINT fk_service_account_organization_id FOREIGN KEY (organization_id, project_id)
        REFERENCES project (organization_id, id) ON DELETE CASCADE
);

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

CREATE TABLE audit_event (
    id uuid CONSTRAINT pk_audit_event PRIMARY KEY,
    organization_id uuid NOT NULL
        CONSTRAINT fk_audit_event_organization_id REFERENCES organization ON DELETE CASCADE,
    actor_id uuid,
    action text NOT NULL,
    target text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ix_audit_event_organization_id ON audit_event (organization_id, created_at);

CREATE TABLE user_session (
    token_sha256 bytea CONSTRAINT pk_user_session PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT fk_user_session_user_id REFERENCES app_user ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX ix_user_session_user_id ON user_session (user_id);

CREATE TABLE email_token (
    token_sha256 bytea CONSTRAINT pk_email_token PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT fk_email_token_user_id REFERENCES app_user ON DELETE CASCADE,
    purpose text NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT ck_email_token_purpose CHECK (purpose IN ('verify', 'reset'))
);
CREATE INDEX ix_email_token_user_id ON email_token (user_id);

CREATE TABLE sign_in_throttle (
    subject bytea CONSTRAINT pk_sign_in_throttle PRIMARY KEY,
    failures integer NOT NULL,
    blocked_until timestamptz NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE signing_key (
    kid text CONSTRAINT pk_signing_key PRIMARY KEY,
    purpose text NOT NULL,
    public_key bytea NOT NULL,
    private_key_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    CONSTRAINT ck_signing_key_purpose CHECK (purpose IN ('api_key', 'receipt'))
);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_outbox PRIMARY KEY,
    topic text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text
);
CREATE INDEX ix_outbox_next_attempt_at ON outbox (next_attempt_at);
"""

TENANT_TABLES = ("membership", "project", "service_account", "api_key", "audit_event")

TENANT_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table} TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON {table} TO farebox_meter USING (true) WITH CHECK (true);
"""

POLICIES = """
ALTER TABLE organization ENABLE ROW LEVEL SECURITY;
ALTER TABLE organization FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON organization TO farebox_app
    USING (
        id = current_organization()
        OR id IN (SELECT organization_id FROM membership WHERE user_id = current_farebox_user())
    )
    WITH CHECK (id = current_organization());
CREATE POLICY meter ON organization TO farebox_meter USING (true) WITH CHECK (true);
CREATE POLICY own_memberships ON membership FOR SELECT TO farebox_app
    USING (user_id = current_farebox_user());
"""

GRANTS = """
GRANT SELECT, INSERT, UPDATE ON organization, app_user, project, service_account TO farebox_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON membership, user_session, email_token, sign_in_throttle
    TO farebox_app;
GRANT SELECT, INSERT ON api_key, audit_event TO farebox_app;
GRANT UPDATE (name, scopes, models, expires_at, revoked_at, last_used_at) ON api_key TO farebox_app;
GRANT SELECT, INSERT, UPDATE ON signing_key TO farebox_app;
GRANT INSERT ON outbox TO farebox_app;
GRANT SELECT ON organization, project, service_account, api_key, membership, app_user TO farebox_meter;
GRANT UPDATE (last_used_at) ON api_key TO farebox_meter;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO farebox_meter;
GRANT SELECT, DELETE ON user_session, email_token, sign_in_throttle TO farebox_meter;
"""


def upgrade() -> None:
    policies = "".join(TENANT_POLICY.format(table=table) for table in TENANT_TABLES)
    for script in (ROLES, CONTEXT, TABLES, POLICIES, policies, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute(
        "DROP TABLE outbox, signing_key, sign_in_throttle, email_token, user_session, audit_event,"
        " api_key, service_account, project, membership, app_user, organization CASCADE"
    )
    op.execute("DROP FUNCTION current_organization, current_farebox_user")
