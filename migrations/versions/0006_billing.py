"""Models for sale, their dated prices, the ledger."""

from alembic import op

from farebox.core.sql import statements

revision = "0006_billing"
down_revision = "0005_limits"

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

OFFERS = """
CREATE FUNCTION announce_model_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('farebox_model', '');
    RETURN NULL;
END $$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE ON model
    FOR EACH STATEMENT EXECUTE FUNCTION announce_model_change();
CREATE TRIGGER announce AFTER INSERT ON price
    FOR EACH STATEMENT EXECUTE FUNCTION announce_model_change();
"""

POLICIES = """
ALTER TABLE ledger_transfer ENABLE ROW LEVEL SECURITY;
ALTER TABLE ledger_transfer FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON ledger_transfer TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON ledger_transfer TO farebox_meter USING (true) WITH CHECK (true);
"""

GRANTS = """
GRANT SELECT ON model, price, ledger_transfer TO farebox_app;
GRANT SELECT, INSERT, UPDATE ON model TO farebox_meter;
GRANT SELECT, INSERT ON price, ledger_transfer TO farebox_meter;
"""


def upgrade() -> None:
    for script in (TABLES, OFFERS, POLICIES, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE ledger_transfer, price, model")
    op.execute("DROP FUNCTION announce_model_change")
