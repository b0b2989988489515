"""Models and prices; limits, holds, usage events, rollups, the ledger."""

from alembic import op

from farebox.core.sql import statements

revision = "0002"
down_revision = "0001"

TABLES = """
CREATE TABLE model (
    id text CONSTRAINT pk_model PRIMARY KEY,
    path text NOT NULL,
    sha256 text NOT NULL,
    owned_by text NOT NULL,
    context_length integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz
);

CREATE TABLE price (
    id uuid CONSTRAINT pk_price PRIMARY KEY,
    model_id text NOT NULL CONSTRAINT fk_price_model_id REFERENCES model,
    input_per_million numeric(20, 6) NOT NULL,
    cached_input_per_million numeric(20, 6) NOT NULL,
    output_per_million numeric(20, 6) NOT NULL,
    currency char(3) NOT NULL,
    effective_from timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_price_model_id UNIQUE (model_id, effective_from),
    CONSTRAINT ck_price_not_negative CHECK (
        input_per_million >= 0 AND cached_input_per_million >= 0 AND output_per_million >= 0
    )
);

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
    CONSTRAINT ck_meter_scope_kind CHECK (kind IN ('organization', 'project', 'key')),
    CONSTRAINT ck_meter_scope_balance_kind CHECK ((balance IS NULL) = (kind <> 'organization')),
    CONSTRAINT ck_meter_scope_balance_positive CHECK (balance >= 0),
    CONSTRAINT ck_meter_scope_active CHECK (active >= 0),
    CONSTRAINT ck_meter_scope_reserved CHECK (reserved >= 0),
    CONSTRAINT ck_meter_scope_limits CHECK (
        requests_per_minute >= 0 AND tokens_per_minute >= 0
        AND concurrent_requests >= 0 AND monthly_cap >= 0
    )
) WITH (fillfactor = 50);
CREATE INDEX ix_meter_scope_organization_id ON meter_scope (organization_id);

CREATE TABLE hold (
    request_id uuid CONSTRAINT pk_hold PRIMARY KEY,
    owner uuid NOT NULL,
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    model_id text NOT NULL,
    price_id uuid NOT NULL,
    input_per_million numeric(20, 6) NOT NULL,
    cached_input_per_million numeric(20, 6) NOT NULL,
    output_per_million numeric(20, 6) NOT NULL,
    currency char(3) NOT NULL,
    tokens bigint NOT NULL,
    amount numeric(30, 12) NOT NULL,
    admitted_at timestamptz NOT NULL DEFAULT now(),
    lease_expires_at timestamptz NOT NULL,
    delivered boolean NOT NULL DEFAULT false,
    input_tokens integer NOT NULL DEFAULT 0,
    cached_input_tokens integer NOT NULL DEFAULT 0,
    output_tokens integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX ix_hold_organization_id ON hold (organization_id);

CREATE TABLE usage_event (
    request_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    admitted_at timestamptz NOT NULL,
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    model_id text NOT NULL,
    status text NOT NULL,
    input_tokens integer NOT NULL,
    cached_input_tokens integer NOT NULL,
    output_tokens integer NOT NULL,
    price_id uuid NOT NULL,
    input_per_million numeric(20, 6) NOT NULL,
    cached_input_per_million numeric(20, 6) NOT NULL,
    output_per_million numeric(20, 6) NOT NULL,
    amount numeric(30, 12) NOT NULL,
    currency char(3) NOT NULL,
    queue_seconds real,
    prefill_seconds real,
    decode_seconds real,
    first_token_seconds real,
    device_seconds real,
    CONSTRAINT pk_usage_event PRIMARY KEY (request_id, created_at),
    CONSTRAINT ck_usage_event_status CHECK (status IN ('completed', 'cancelled', 'failed', 'interrupted')),
    CONSTRAINT ck_usage_event_tokens CHECK (
        input_tokens >= 0 AND cached_input_tokens >= 0 AND output_tokens >= 0
    )
) PARTITION BY RANGE (created_at);
CREATE INDEX ix_usage_event_organization_id ON usage_event (organization_id, created_at);
CREATE TABLE usage_event_rest PARTITION OF usage_event DEFAULT;

CREATE TABLE usage_hour (
    organization_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    project_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    model_id text NOT NULL,
    currency char(3) NOT NULL,
    requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    amount numeric(30, 12) NOT NULL,
    CONSTRAINT pk_usage_hour PRIMARY KEY (organization_id, hour, project_id, api_key_id, model_id, currency)
) WITH (fillfactor = 50);

CREATE TABLE ledger_transfer (
    id uuid CONSTRAINT pk_ledger_transfer PRIMARY KEY,
    organization_id uuid NOT NULL,
    kind text NOT NULL,
    debit_account text NOT NULL,
    credit_account text NOT NULL,
    amount numeric(30, 12) NOT NULL,
    currency char(3) NOT NULL,
    reference text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_ledger_transfer_organization_id UNIQUE (organization_id, reference),
    CONSTRAINT ck_ledger_transfer_kind CHECK (kind IN ('top_up', 'usage', 'refund', 'adjustment')),
    CONSTRAINT ck_ledger_transfer_amount CHECK (amount > 0),
    CONSTRAINT ck_ledger_transfer_accounts CHECK (debit_account <> credit_account)
);
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

TENANT_TABLES = ("meter_scope", "hold", "usage_event", "usage_event_rest", "usage_hour", "ledger_transfer")

TENANT_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table} TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON {table} TO farebox_meter USING (true) WITH CHECK (true);
"""

GRANTS = """
GRANT SELECT ON model, price, hold, usage_event, usage_hour, ledger_transfer TO farebox_app;
GRANT SELECT ON meter_scope TO farebox_app;
GRANT INSERT (id, organization_id, kind, balance) ON meter_scope TO farebox_app;
GRANT UPDATE (requests_per_minute, tokens_per_minute, concurrent_requests, monthly_cap)
    ON meter_scope TO farebox_app;
GRANT SELECT, INSERT, UPDATE ON model TO farebox_meter;
GRANT SELECT, INSERT ON price, usage_event, ledger_transfer TO farebox_meter;
GRANT SELECT, INSERT, UPDATE, DELETE ON hold TO farebox_meter;
GRANT SELECT, INSERT, UPDATE ON usage_hour TO farebox_meter;
GRANT SELECT, UPDATE ON meter_scope TO farebox_meter;
"""


def upgrade() -> None:
    policies = "".join(TENANT_POLICY.format(table=table) for table in TENANT_TABLES)
    for script in (TABLES, SCOPE_TRIGGERS, policies, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    for table in ("organization", "project", "api_key"):
        op.execute(f"DROP TRIGGER open_scope ON {table}")
    op.execute("DROP FUNCTION open_meter_scope")
    op.execute("DROP TABLE ledger_transfer, usage_hour, usage_event, hold, meter_scope, price, model")
