"""Holds, usage events, their amendments, answers on their way, and sums by hour and minute."""

from alembic import op

from farebox.core.sql import statements

revision = "0007_metering"
down_revision = "0006_billing"

# Holds and sums are written by every request: half of each page is left for new versions of its rows, and
# vacuum comes often.
TABLES = """
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
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
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
CREATE INDEX ix_usage_event_project ON usage_event (organization_id, project_id, created_at);
CREATE TABLE usage_event_rest PARTITION OF usage_event DEFAULT;

CREATE TABLE usage_amendment (
    request_id uuid CONSTRAINT pk_usage_amendment PRIMARY KEY,
    created_at timestamptz NOT NULL,
    organization_id uuid NOT NULL,
    project_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    model_id text NOT NULL,
    status text NOT NULL,
    input_tokens integer NOT NULL,
    cached_input_tokens integer NOT NULL,
    output_tokens integer NOT NULL,
    input_per_million numeric(20, 6) NOT NULL,
    cached_input_per_million numeric(20, 6) NOT NULL,
    output_per_million numeric(20, 6) NOT NULL,
    amount numeric(30, 12) NOT NULL,
    currency char(3) NOT NULL,
    CONSTRAINT ck_usage_amendment_status CHECK (
        status IN ('completed', 'cancelled', 'failed', 'interrupted', 'undelivered')
    ),
    CONSTRAINT ck_usage_amendment_difference CHECK (
        CASE WHEN status = 'undelivered'
        THEN greatest(input_tokens, cached_input_tokens, output_tokens, amount) <= 0
        ELSE least(input_tokens, cached_input_tokens, output_tokens, amount) >= 0 END
    )
);

CREATE TABLE handover (
    request_id uuid CONSTRAINT pk_handover PRIMARY KEY,
    lease_expires_at timestamptz NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);

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
    input_amount numeric(30, 12) NOT NULL,
    cached_input_amount numeric(30, 12) NOT NULL,
    CONSTRAINT pk_usage_hour PRIMARY KEY (organization_id, hour, project_id, api_key_id, model_id, currency)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);

CREATE TABLE usage_minute (
    organization_id uuid NOT NULL,
    minute timestamptz NOT NULL,
    project_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    model_id text NOT NULL,
    currency char(3) NOT NULL,
    requests bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    amount numeric(30, 12) NOT NULL,
    CONSTRAINT pk_usage_minute
        PRIMARY KEY (organization_id, minute, project_id, api_key_id, model_id, currency)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
"""

TENANT_TABLES = ("hold", "usage_event", "usage_event_rest", "usage_amendment", "usage_hour", "usage_minute")

TENANT_POLICY = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table} TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON {table} TO farebox_meter USING (true) WITH CHECK (true);
"""

# Here and not beside the organizations, since it asks the books: who has used or paid anything stays.
REMOVALS = """
CREATE POLICY only_unused ON organization AS RESTRICTIVE FOR DELETE TO farebox_meter
    USING (
        NOT EXISTS (SELECT FROM ledger_transfer t WHERE t.organization_id = organization.id)
        AND NOT EXISTS (SELECT FROM usage_hour u WHERE u.organization_id = organization.id)
        AND NOT EXISTS (SELECT FROM hold h WHERE h.organization_id = organization.id)
    );
"""

GRANTS = """
GRANT SELECT ON hold, usage_event, usage_amendment, usage_hour, usage_minute TO farebox_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON hold, handover TO farebox_meter;
GRANT SELECT, INSERT ON usage_event, usage_amendment TO farebox_meter;
GRANT SELECT, INSERT, UPDATE ON usage_hour, usage_minute TO farebox_meter;
"""


def upgrade() -> None:
    policies = "".join(TENANT_POLICY.format(table=table) for table in TENANT_TABLES)
    for script in (TABLES, policies, REMOVALS, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP POLICY only_unused ON organization")
    op.execute("DROP TABLE usage_minute, usage_hour, handover, usage_amendment, usage_event, hold")
