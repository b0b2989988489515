"""Organizations, projects, people, the audit log; row-level security between tenants."""

from alembic import op

from farebox.core.sql import statements

revision = "0002_tenants"
down_revision = "0001_foundation"

TABLES = """
CREATE TABLE organization (
    id uuid CONSTRAINT pk_organization PRIMARY KEY,
    name text NOT NULL,
    status text NOT NULL DEFAULT 'active',
    created_at timestamptz NOT NULL DEFAULT now(),
    max_requests_per_minute integer,
    max_tokens_per_minute bigint,
    max_concurrent_requests integer,
    max_projects integer,
    max_keys integer,
    allowed_models text[],
    CONSTRAINT ck_organization_status CHECK (status IN ('active', 'suspended')),
    CONSTRAINT ck_organization_ceilings CHECK (
        max_requests_per_minute >= 0 AND max_tokens_per_minute >= 0 AND max_concurrent_requests >= 0
        AND max_projects >= 0 AND max_keys >= 0
    )
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
"""

TENANT_TABLES = ("membership", "project", "service_account", "audit_event")

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

ALTER TABLE app_user ENABLE ROW LEVEL SECURITY;
ALTER TABLE app_user FORCE ROW LEVEL SECURITY;
CREATE POLICY own_account ON app_user TO farebox_app
    USING (id = current_farebox_user()) WITH CHECK (id = current_farebox_user());
-- Who signs up or in has nothing yet but an address.
CREATE POLICY addressed_account ON app_user TO farebox_app
    USING (email = current_email()) WITH CHECK (email = current_email());
CREATE POLICY meter ON app_user TO farebox_meter USING (true) WITH CHECK (true);
"""

GRANTS = """
GRANT SELECT ON organization, app_user, membership, project, service_account, audit_event TO farebox_app;
-- Written by columns: nothing that the application does changes an organization's status.
GRANT INSERT (id, name), UPDATE (name) ON organization TO farebox_app;
GRANT INSERT (id, email, name, password_hash, email_verified_at),
    UPDATE (name, password_hash, email_verified_at) ON app_user TO farebox_app;
GRANT INSERT (organization_id, user_id, role), UPDATE (role), DELETE ON membership TO farebox_app;
GRANT INSERT (id, organization_id, name, archived_at), UPDATE (name, archived_at) ON project TO farebox_app;
GRANT INSERT (id, organization_id, project_id, name), UPDATE (name) ON service_account TO farebox_app;
GRANT INSERT (id, organization_id, actor_id, action, target, detail) ON audit_event TO farebox_app;
GRANT SELECT ON organization, project, service_account, membership TO farebox_meter;
GRANT SELECT (id, email, email_verified_at, created_at) ON app_user TO farebox_meter;
-- What nobody confirmed is removed. A row can be locked by whoever may update one of its columns.
GRANT DELETE ON app_user, organization TO farebox_meter;
GRANT UPDATE (name) ON app_user, organization TO farebox_meter;
-- Ceilings are the operator's.
GRANT UPDATE (
    max_requests_per_minute, max_tokens_per_minute, max_concurrent_requests, max_projects, max_keys,
    allowed_models
) ON organization TO farebox_meter;
GRANT INSERT (id, organization_id, actor_id, action, target, detail) ON audit_event TO farebox_meter;
"""


def upgrade() -> None:
    policies = "".join(TENANT_POLICY.format(table=table) for table in TENANT_TABLES)
    for script in (TABLES, POLICIES, policies, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    # The policies of both name each other's table.
    op.execute("DROP POLICY tenant ON organization")
    op.execute("DROP TABLE audit_event, service_account, project, membership, app_user, organization")
