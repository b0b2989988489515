"""Exports that customers ask for, and an index to read the ledger by time."""

from alembic import op

from farebox.core.sql import statements

revision = "0014_exports"
down_revision = "0012_invoices"

TABLES = """
CREATE TABLE export (
    id uuid CONSTRAINT pk_export PRIMARY KEY,
    organization_id uuid NOT NULL
        CONSTRAINT fk_export_organization_id REFERENCES organization ON DELETE CASCADE,
    listing text NOT NULL,
    format text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    rows_per_part integer NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    section integer NOT NULL DEFAULT 0,
    section_row bigint NOT NULL DEFAULT 0,
    rows bigint NOT NULL DEFAULT 0,
    parts integer NOT NULL DEFAULT 0,
    sums jsonb NOT NULL DEFAULT '{}',
    failure text,
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    CONSTRAINT uq_export_organization_id UNIQUE (organization_id, id),
    CONSTRAINT ck_export_status CHECK (status IN ('queued', 'running', 'completed', 'failed')),
    CONSTRAINT ck_export_period CHECK (starts_at < ends_at),
    CONSTRAINT ck_export_rows_per_part CHECK (rows_per_part > 0)
);
CREATE INDEX ix_export_organization_id ON export (organization_id, created_at);

CREATE TABLE export_part (
    export_id uuid NOT NULL,
    number integer NOT NULL,
    organization_id uuid NOT NULL,
    rows bigint NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    sums jsonb NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT pk_export_part PRIMARY KEY (export_id, number),
    CONSTRAINT fk_export_part_organization_id
        FOREIGN KEY (organization_id, export_id) REFERENCES export (organization_id, id) ON DELETE CASCADE
);

-- Transfers lie in the order of time: what covers a day is small, and costs settlement nothing.
CREATE INDEX ix_ledger_transfer_created_at ON ledger_transfer USING brin (created_at);
"""

POLICIES = """
ALTER TABLE export ENABLE ROW LEVEL SECURITY;
ALTER TABLE export FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON export TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON export TO farebox_meter USING (true) WITH CHECK (true);
ALTER TABLE export_part ENABLE ROW LEVEL SECURITY;
ALTER TABLE export_part FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON export_part TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON export_part TO farebox_meter USING (true) WITH CHECK (true);
"""

GRANTS = """
GRANT SELECT ON export, export_part TO farebox_app;
GRANT INSERT (id, organization_id, listing, format, starts_at, ends_at, rows_per_part)
    ON export TO farebox_app;
GRANT SELECT, UPDATE, DELETE ON export TO farebox_meter;
GRANT SELECT, INSERT ON export_part TO farebox_meter;
"""


def upgrade() -> None:
    for script in (TABLES, POLICIES, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP INDEX ix_ledger_transfer_created_at")
    op.execute("DROP TABLE export_part, export")
