"""Seals of closed hours, which weights were on offer when, and when the books were last compared."""

from pathlib import Path

from alembic import op

from farebox.core.sql import statements

revision = "0011_seals"
down_revision = "0010_price_book"

TABLES = """
CREATE TABLE usage_seal (
    hour timestamptz CONSTRAINT pk_usage_seal PRIMARY KEY,
    entries bigint NOT NULL,
    root bytea NOT NULL,
    previous bytea NOT NULL,
    seal bytea NOT NULL,
    sealed_at timestamptz NOT NULL DEFAULT now(),
    -- What follows a seal is one: the chain has no forks.
    CONSTRAINT uq_usage_seal_previous UNIQUE (previous),
    CONSTRAINT ck_usage_seal_hashes CHECK (length(root) = 32 AND length(previous) = 32 AND length(seal) = 32)
);

CREATE TABLE usage_organization_seal (
    organization_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    entries bigint NOT NULL,
    root bytea NOT NULL,
    path bytea NOT NULL,
    CONSTRAINT pk_usage_organization_seal PRIMARY KEY (organization_id, hour),
    CONSTRAINT ck_usage_organization_seal_root CHECK (length(root) = 32)
);
CREATE INDEX ix_usage_organization_seal_hour ON usage_organization_seal (hour);

CREATE TABLE seal_horizon (
    until timestamptz CONSTRAINT pk_seal_horizon PRIMARY KEY,
    transaction_id bigint NOT NULL
);

CREATE TABLE reconciliation (
    day date CONSTRAINT pk_reconciliation PRIMARY KEY,
    finished_at timestamptz NOT NULL,
    seconds double precision NOT NULL,
    differences bigint NOT NULL
);

CREATE TABLE model_weights (
    model_id text NOT NULL,
    offered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sha256 text NOT NULL,
    CONSTRAINT pk_model_weights PRIMARY KEY (model_id, offered_at)
);
INSERT INTO model_weights (model_id, offered_at, sha256) SELECT id, created_at, sha256 FROM model;

-- Events come in the order of time: a summary of each stretch of the table finds an hour.
CREATE INDEX ix_usage_event_created_at ON usage_event USING brin (created_at);
CREATE INDEX ix_usage_amendment_created_at ON usage_amendment (created_at);
"""

POLICIES = """
ALTER TABLE usage_organization_seal ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_organization_seal FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON usage_organization_seal TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON usage_organization_seal TO farebox_meter USING (true) WITH CHECK (true);
"""

# What is sealed is never changed.
GRANTS = """
GRANT SELECT ON usage_seal, usage_organization_seal, model_weights TO farebox_app;
GRANT SELECT (day, finished_at, differences) ON reconciliation TO farebox_app;
GRANT SELECT, INSERT ON usage_seal, usage_organization_seal, model_weights TO farebox_meter;
GRANT SELECT, INSERT, DELETE ON seal_horizon TO farebox_meter;
GRANT SELECT, INSERT, UPDATE ON reconciliation TO farebox_meter;
"""

FUNCTIONS = ("event_leaf", "amendment_leaf")
FOLDER = Path(__file__).parent / "sql" / "0011"


def upgrade() -> None:
    scripts = [(FOLDER / f"{name}.sql").read_text(encoding="utf-8") for name in FUNCTIONS]
    for script in (TABLES, POLICIES, GRANTS, *scripts):
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION farebox_{name}")
    op.execute("DROP INDEX ix_usage_event_created_at, ix_usage_amendment_created_at")
    op.execute("DROP TABLE model_weights, reconciliation, seal_horizon, usage_organization_seal, usage_seal")
