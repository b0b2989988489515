"""Invoices, statements, credit notes; their numbers; who is billed; indexes to read a month's ledger by."""

from alembic import op

from farebox.core.sql import statements

revision = "0012_invoices"
down_revision = "0011_seals"

# Organizations may go, their invoices stay: the law asks for them for years.
TABLES = """
CREATE TABLE invoice (
    id uuid CONSTRAINT pk_invoice PRIMARY KEY,
    organization_id uuid NOT NULL,
    kind text NOT NULL,
    number text NOT NULL,
    month date NOT NULL,
    currency char(3) NOT NULL,
    status text NOT NULL,
    issued_at timestamptz NOT NULL,
    due_on date,
    total numeric(30, 12) NOT NULL,
    due numeric(30, 12) NOT NULL DEFAULT 0,
    paid numeric(30, 12) NOT NULL DEFAULT 0,
    credited numeric(30, 12) NOT NULL DEFAULT 0,
    refunded numeric(30, 12) NOT NULL DEFAULT 0,
    settled_at timestamptz,
    closing_balance numeric(30, 12),
    closing_receivable numeric(30, 12),
    refers_to uuid,
    reason text,
    document text NOT NULL,
    CONSTRAINT uq_invoice_organization_id UNIQUE (organization_id, id),
    CONSTRAINT uq_invoice_number UNIQUE (number),
    CONSTRAINT uq_invoice_refers_to UNIQUE (refers_to, reason),
    CONSTRAINT fk_invoice_organization_id FOREIGN KEY (organization_id, refers_to)
        REFERENCES invoice (organization_id, id),
    CONSTRAINT ck_invoice_kind CHECK (kind IN ('invoice', 'statement', 'credit_note')),
    CONSTRAINT ck_invoice_status CHECK (status IN ('open', 'paid', 'void', 'uncollectible', 'final')),
    CONSTRAINT ck_invoice_refers CHECK ((refers_to IS NOT NULL) = (kind = 'credit_note')),
    CONSTRAINT ck_invoice_settlement CHECK (
        paid >= 0 AND refunded >= 0 AND refunded <= paid
        AND credited - refunded + paid <= greatest(due, 0) AND credited <= greatest(due, 0)
        AND credited >= refunded
    )
);
CREATE UNIQUE INDEX uq_invoice_month ON invoice (organization_id, month, currency)
    WHERE kind <> 'credit_note';

CREATE TABLE invoice_payment (
    id uuid CONSTRAINT pk_invoice_payment PRIMARY KEY,
    organization_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    amount numeric(30, 12) NOT NULL,
    reference text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT fk_invoice_payment_organization_id FOREIGN KEY (organization_id, invoice_id)
        REFERENCES invoice (organization_id, id),
    CONSTRAINT ck_invoice_payment_amount CHECK (amount > 0)
);
CREATE INDEX ix_invoice_payment_organization_id ON invoice_payment (organization_id, invoice_id);

CREATE TABLE credited_line (
    organization_id uuid NOT NULL,
    credit_note_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    line integer NOT NULL,
    amount numeric(30, 12) NOT NULL,
    CONSTRAINT pk_credited_line PRIMARY KEY (credit_note_id, line),
    CONSTRAINT fk_credited_line_organization_id FOREIGN KEY (organization_id, credit_note_id)
        REFERENCES invoice (organization_id, id),
    CONSTRAINT fk_credited_line_invoice_id FOREIGN KEY (organization_id, invoice_id)
        REFERENCES invoice (organization_id, id),
    CONSTRAINT ck_credited_line_amount CHECK (amount > 0)
);
CREATE INDEX ix_credited_line_organization_id ON credited_line (organization_id, invoice_id);

CREATE TABLE number_series (
    issuer text NOT NULL,
    series text NOT NULL,
    year integer NOT NULL,
    last integer NOT NULL,
    CONSTRAINT pk_number_series PRIMARY KEY (issuer, series, year)
);

CREATE TABLE closed_month (
    month date CONSTRAINT pk_closed_month PRIMARY KEY,
    closed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE billing_details (
    organization_id uuid CONSTRAINT pk_billing_details PRIMARY KEY
        CONSTRAINT fk_billing_details_organization_id REFERENCES organization ON DELETE CASCADE,
    name text,
    address text[] NOT NULL DEFAULT '{}',
    country char(2),
    tax_id text,
    email text,
    language text,
    CONSTRAINT ck_billing_details_language CHECK (language IN ('en', 'zh-Hans'))
);
"""

# What requests move is a row for each of them; a month is read from the hourly sums, from what moved
# otherwise, and from what was drawn on a credit line. Requests that were paid ahead are in neither index.
INDEXES = """
CREATE INDEX ix_ledger_transfer_moved ON ledger_transfer (organization_id, created_at)
    WHERE request_id IS NULL;
CREATE INDEX ix_ledger_transfer_drawn ON ledger_transfer (organization_id, created_at)
    INCLUDE (debit_account, amount, currency)
    WHERE request_id IS NOT NULL AND (debit_account = 'receivable' OR credit_account = 'receivable');
"""

TENANT_TABLES = ("invoice", "invoice_payment", "credited_line", "billing_details")

POLICIES = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON {table} TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON {table} TO farebox_meter USING (true) WITH CHECK (true);
GRANT SELECT ON {table} TO farebox_app;
GRANT SELECT, INSERT ON {table} TO farebox_meter;
"""

# A document never changes; what was paid and credited of it does.
GRANTS = """
GRANT UPDATE (status, paid, credited, refunded, settled_at) ON invoice TO farebox_meter;
GRANT INSERT (organization_id, name, address, country, tax_id, email, language),
    UPDATE (name, address, country, tax_id, email, language) ON billing_details TO farebox_app;
GRANT UPDATE ON billing_details TO farebox_meter;
GRANT SELECT, INSERT, UPDATE ON number_series TO farebox_meter;
GRANT SELECT, INSERT ON closed_month TO farebox_meter;
"""


def upgrade() -> None:
    policies = "".join(POLICIES.format(table=table) for table in TENANT_TABLES)
    for script in (TABLES, INDEXES, policies, GRANTS):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    op.execute("DROP INDEX ix_ledger_transfer_moved, ix_ledger_transfer_drawn")
    op.execute(
        "DROP TABLE billing_details, closed_month, number_series, credited_line, invoice_payment, invoice"
    )
