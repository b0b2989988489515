"""Promotional credit, credit lines, and a ledger account for each purse that pays."""

from pathlib import Path

from alembic import op

from farebox.core.sql import statements

revision = "0009_ledger"
down_revision = "0008_metering_functions"

COLUMNS = """
ALTER TABLE meter_scope
    ADD COLUMN promotional numeric(30, 12) NOT NULL DEFAULT 0,
    ADD COLUMN credit_line numeric(30, 12) NOT NULL DEFAULT 0,
    ADD CONSTRAINT ck_meter_scope_credit CHECK (promotional >= 0 AND credit_line >= 0) NOT VALID;
-- squawk-ignore ban-drop-constraint
ALTER TABLE meter_scope DROP CONSTRAINT ck_meter_scope_balance_positive;
ALTER TABLE meter_scope VALIDATE CONSTRAINT ck_meter_scope_credit;

ALTER TABLE ledger_transfer
    ADD COLUMN request_id uuid,
    ADD COLUMN reason text;
-- squawk-ignore ban-drop-constraint
ALTER TABLE ledger_transfer DROP CONSTRAINT ck_ledger_transfer_kind;
ALTER TABLE ledger_transfer
    ADD CONSTRAINT ck_ledger_transfer_kind CHECK (kind IN (
        'top_up', 'usage', 'refund', 'adjustment', 'grant', 'expiry', 'application', 'fee',
        'payment', 'tax', 'processor_fee', 'dispute', 'rounding'
    )) NOT VALID;
ALTER TABLE ledger_transfer VALIDATE CONSTRAINT ck_ledger_transfer_kind;

CREATE TABLE promotional_grant (
    id uuid CONSTRAINT pk_promotional_grant PRIMARY KEY,
    organization_id uuid NOT NULL,
    amount numeric(30, 12) NOT NULL,
    remaining numeric(30, 12) NOT NULL,
    currency char(3) NOT NULL,
    reference text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    closed_at timestamptz,
    CONSTRAINT ck_promotional_grant_amount CHECK (amount > 0 AND remaining BETWEEN 0 AND amount)
);
CREATE INDEX ix_promotional_grant_organization_id ON promotional_grant (organization_id);
ALTER TABLE promotional_grant ENABLE ROW LEVEL SECURITY;
ALTER TABLE promotional_grant FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON promotional_grant TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON promotional_grant TO farebox_meter USING (true) WITH CHECK (true);
GRANT SELECT ON promotional_grant TO farebox_app;
GRANT SELECT, INSERT, UPDATE ON promotional_grant TO farebox_meter;
"""

# What was booked so far says of which request it is, and of which model. Also for an owner who is bound by
# the policies: for these statements he is not.
BOOKED = """
ALTER TABLE ledger_transfer NO FORCE ROW LEVEL SECURITY;
ALTER TABLE usage_event NO FORCE ROW LEVEL SECURITY;
UPDATE ledger_transfer t SET request_id = e.request_id, credit_account = 'revenue:' || e.model_id
FROM usage_event e
WHERE t.kind = 'usage' AND e.request_id = t.id;
UPDATE ledger_transfer t
SET request_id = e.request_id, credit_account = 'revenue:' || e.model_id, reason = 'amendment'
FROM usage_event e
WHERE t.kind = 'usage' AND t.reference = 'amendment of ' || e.request_id;
UPDATE ledger_transfer t
SET request_id = e.request_id, debit_account = 'revenue:' || e.model_id, reason = 'undelivered'
FROM usage_event e
WHERE t.kind = 'adjustment' AND t.reference = 'credit of ' || e.request_id;
ALTER TABLE usage_event FORCE ROW LEVEL SECURITY;
ALTER TABLE ledger_transfer FORCE ROW LEVEL SECURITY;
"""

NEW = ("leg", "fund")
CHANGED = ("admit", "settle", "rehold", "amend", "credit")
FOLDER = Path(__file__).parent / "sql"


def _create(version: str, names: tuple[str, ...]) -> None:
    """In place: servers of the version before go on calling them."""
    for name in names:
        script = (FOLDER / version / f"{name}.sql").read_text(encoding="utf-8")
        for statement in statements(script.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")):
            op.execute(statement)


def upgrade() -> None:
    for script in (COLUMNS, BOOKED):
        for statement in statements(script):
            op.execute(statement)
    _create("0009", (*NEW, *CHANGED))


def downgrade() -> None:
    _create("0008", CHANGED)
    for name in NEW:
        op.execute(f"DROP FUNCTION farebox_{name}")
    op.execute("DROP TABLE promotional_grant")
    op.execute("ALTER TABLE ledger_transfer DROP COLUMN request_id, DROP COLUMN reason")
    op.execute("ALTER TABLE meter_scope DROP COLUMN promotional, DROP COLUMN credit_line")
    op.execute("ALTER TABLE meter_scope ADD CONSTRAINT ck_meter_scope_balance_positive CHECK (balance >= 0)")
