"""What an organization, a project or a key may still do: a scope for each, opened with it."""

from alembic import op

from farebox.core.sql import statements

revision = "0005_limits"
down_revision = "0004_keys"

# Updated by every request: half of each page is left for new versions of its rows, and vacuum comes often.
TABLES = """
CREATE TABLE meter_scope (
    id uuid CONSTRAINT pk_meter_scope PRIMARY KEY,
    organization_id uuid NOT NULL
        CONSTRAINT fk_meter_scope_organization_id REFERENCES organization ON DELETE CASCADE,
    kind text NOT NULL,
    requests_per_minute integer,
    tokens_per_minute bigint,
    concurrent_requests integer,
    monthly_cap numeric(30, 12),
    request_level double precision,
    token_level double precision,
    refilled_at timestamptz NOT NULL DEFAULT now(),
    active integer NOT NULL DEFAULT 0,
    reserved numeric(30, 12) NOT NULL DEFAULT 0,
    spend_month date NOT NULL DEFAULT date_trunc('month', now() AT TIME ZONE 'UTC'),
    spent numeric(30, 12) NOT NULL DEFAULT 0,
    balance numeric(30, 12),
    currency char(3),
    CONSTRAINT ck_meter_scope_kind CHECK (kind IN ('organization', 'project', 'key')),
    CONSTRAINT ck_meter_scope_balance_kind CHECK ((balance IS NULL) = (kind <> 'organization')),
    CONSTRAINT ck_meter_scope_balance_positive CHECK (balance >= 0),
    CONSTRAINT ck_meter_scope_currency CHECK (currency IS NULL OR kind = 'organization'),
    CONSTRAINT ck_meter_scope_active CHECK (active >= 0),
    CONSTRAINT ck_meter_scope_reserved CHECK (reserved >= 0),
    CONSTRAINT ck_meter_scope_limits CHECK (
        requests_per_minute >= 0 AND tokens_per_minute >= 0
        AND concurrent_requests >= 0 AND monthly_cap >= 0
    )
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX ix_meter_scope_organization_id ON meter_scope (organization_id);
"""

SCOPE_TRIGGERS = """
CREATE FUNCTION open_meter_scope() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_ARGV[0] = 'organization' THEN
        INSERT INTO meter_scope (id, organization_id, kind, balance) VALUES (NEW.id, NEW.id, TG_ARGV[0], 0);
    ELSE
        INSERT INTO meter_scope (id, organization_id, kind) VALUES (NEW.id, NEW.organization_id, TG_ARGV[0]);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER open_scope AFTER INSERT ON organization
    FOR EACH ROW EXECUTE FUNCTION open_meter_scope('organization');
CREATE TRIGGER open_scope AFTER INSERT ON project
    FOR EACH ROW EXECUTE FUNCTION open_meter_scope('project');
CREATE TRIGGER open_scope AFTER INSERT ON api_key
    FOR EACH ROW EXECUTE FUNCTION open_meter_scope('key');
"""

POLICIES = """
ALTER TABLE meter_scope ENABLE ROW LEVEL SECURITY;
ALTER TABLE meter_scope FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON meter_scope TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON meter_scope TO farebox_meter USING (true) WITH CHECK (true);
-- The application may open scopes, since the triggers run as who inserts, but no purse with money in it.
CREATE POLICY opens_empty ON meter_scope AS RESTRICTIVE FOR INSERT TO farebox_app
    WITH CHECK (coalesce(balance, 0) = 0);
"""

GRANTS = """
GRANT SELECT ON meter_scope TO farebox_app;
GRANT INSERT (id, organization_id, kind, balance) ON meter_scope TO farebox_app;
GRANT UPDATE (requests_per_minute, tokens_per_minute, concurrent_requests, monthly_cap)
    ON meter_scope TO farebox_app;
GRANT SELECT, UPDATE ON meter_scope TO farebox_meter;
"""


def upgrade() -> None:
    for script in (TABLES, SCOPE_TRIGGERS, POLICIES, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    for table in ("organization", "project", "api_key"):
        op.execute(f"DROP TRIGGER open_scope ON {table}")
    op.execute("DROP FUNCTION open_meter_scope")
    op.execute("DROP TABLE meter_scope")
