"""What is bought through Stripe, what Stripe told of it, and an outbox that waits for days."""

from alembic import op

from farebox.core.sql import statements

revision = "0013_stripe"
down_revision = "0014_exports"

OUTBOX = """
ALTER TABLE outbox ADD COLUMN serial_key text;
CREATE INDEX ix_outbox_serial_key ON outbox (serial_key, id) WHERE serial_key IS NOT NULL;
GRANT INSERT (serial_key) ON outbox TO farebox_app;
"""

BOUGHT = """
CREATE TABLE top_up (
    id uuid CONSTRAINT pk_top_up PRIMARY KEY,
    organization_id uuid NOT NULL,
    kind text NOT NULL,
    state text NOT NULL DEFAULT 'open',
    amount numeric(30, 12) NOT NULL,
    currency char(3) NOT NULL,
    tax numeric(30, 12) NOT NULL DEFAULT 0,
    fee numeric(30, 12),
    client_key text,
    keeps_method boolean NOT NULL DEFAULT false,
    session_id text CONSTRAINT uq_top_up_session_id UNIQUE,
    invoice_id text CONSTRAINT uq_top_up_invoice_id UNIQUE,
    payment_intent text CONSTRAINT uq_top_up_payment_intent UNIQUE,
    url text,
    failure text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    paid_at timestamptz,
    CONSTRAINT uq_top_up_organization_id UNIQUE (organization_id, id),
    CONSTRAINT uq_top_up_client_key UNIQUE (organization_id, client_key),
    CONSTRAINT ck_top_up_kind CHECK (kind IN ('checkout', 'automatic')),
    CONSTRAINT ck_top_up_state CHECK (
        state IN ('open', 'processing', 'requires_action', 'failed', 'expired', 'paid')
    ),
    CONSTRAINT ck_top_up_amount CHECK (amount > 0 AND tax >= 0)
);
CREATE UNIQUE INDEX uq_top_up_automatic ON top_up (organization_id)
    WHERE kind = 'automatic' AND state IN ('open', 'processing', 'requires_action');

CREATE TABLE top_up_refund (
    id uuid CONSTRAINT pk_top_up_refund PRIMARY KEY,
    organization_id uuid NOT NULL,
    top_up_id uuid NOT NULL,
    refund_id text CONSTRAINT uq_top_up_refund_refund_id UNIQUE,
    state text NOT NULL,
    credit numeric(30, 12) NOT NULL,
    tax numeric(30, 12) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fk_top_up_refund_organization_id FOREIGN KEY (organization_id, top_up_id)
        REFERENCES top_up (organization_id, id),
    CONSTRAINT ck_top_up_refund_state CHECK (state IN ('requested', 'pending', 'succeeded', 'failed')),
    CONSTRAINT ck_top_up_refund_amount CHECK (credit >= 0 AND tax >= 0)
);
CREATE INDEX ix_top_up_refund_top_up_id ON top_up_refund (top_up_id);

CREATE TABLE top_up_dispute (
    id text CONSTRAINT pk_top_up_dispute PRIMARY KEY,
    organization_id uuid NOT NULL,
    top_up_id uuid NOT NULL,
    state text NOT NULL,
    credit numeric(30, 12) NOT NULL,
    tax numeric(30, 12) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fk_top_up_dispute_organization_id FOREIGN KEY (organization_id, top_up_id)
        REFERENCES top_up (organization_id, id),
    CONSTRAINT ck_top_up_dispute_state CHECK (state IN ('open', 'withdrawn', 'reinstated', 'lost')),
    CONSTRAINT ck_top_up_dispute_amount CHECK (credit >= 0 AND tax >= 0)
);
CREATE INDEX ix_top_up_dispute_top_up_id ON top_up_dispute (top_up_id);

CREATE TABLE stripe_customer (
    organization_id uuid CONSTRAINT pk_stripe_customer PRIMARY KEY,
    customer_id text NOT NULL CONSTRAINT uq_stripe_customer_customer_id UNIQUE,
    payment_method text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE auto_top_up (
    organization_id uuid CONSTRAINT pk_auto_top_up PRIMARY KEY,
    enabled boolean NOT NULL,
    threshold numeric(30, 12) NOT NULL,
    amount numeric(30, 12) NOT NULL,
    monthly_ceiling numeric(30, 12) NOT NULL,
    currency char(3) NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    paused text,
    retry_at timestamptz,
    CONSTRAINT ck_auto_top_up_amounts CHECK (
        threshold >= 0 AND amount > 0 AND monthly_ceiling >= amount
    ),
    CONSTRAINT ck_auto_top_up_paused CHECK (paused IN ('declined', 'requires_action', 'no_method'))
);
"""

TOLD = """
CREATE TABLE stripe_event (
    id text CONSTRAINT pk_stripe_event PRIMARY KEY,
    type text NOT NULL,
    object_id text,
    state text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    note text,
    received_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,
    CONSTRAINT ck_stripe_event_state CHECK (state IN ('pending', 'done', 'ignored', 'dead'))
);
CREATE INDEX ix_stripe_event_received_at ON stripe_event (received_at) WHERE state <> 'done';
CREATE TABLE stripe_sweep (
    name text CONSTRAINT pk_stripe_sweep PRIMARY KEY,
    begun_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON stripe_event TO farebox_meter;
GRANT SELECT, INSERT, UPDATE ON stripe_sweep TO farebox_meter;
"""

POLICIES = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table} TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON {table} TO farebox_meter USING (true) WITH CHECK (true);
GRANT SELECT ON {table} TO farebox_app;
GRANT SELECT, INSERT, UPDATE ON {table} TO farebox_meter;
"""

TENANTS = ("top_up", "top_up_refund", "top_up_dispute", "stripe_customer", "auto_top_up")


def upgrade() -> None:
    policies = (POLICIES.format(table=table) for table in TENANTS)
    for script in (OUTBOX, BOUGHT, TOLD, *policies):
        for statement in statements(script):
            op.execute(statement)
    op.execute("GRANT DELETE ON stripe_customer TO farebox_meter")


def downgrade() -> None:
    op.execute("DROP TABLE stripe_sweep, stripe_event")
    op.execute("DROP TABLE auto_top_up, stripe_customer, top_up_dispute, top_up_refund, top_up")
    op.execute("ALTER TABLE outbox DROP COLUMN serial_key")
