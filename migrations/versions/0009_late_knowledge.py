"""Amendments of what a sweep settled; months and buckets under a clock that is set back.

The text in `sql/0009` stays as it is, as that in `sql/0008` does.
"""

from pathlib import Path

from alembic import op

from farebox.core.sql import statements

revision = "0009_late_knowledge"
down_revision = "0008_metering_functions"

TABLES = """
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
        status IN ('completed', 'cancelled', 'failed', 'interrupted')
    ),
    CONSTRAINT ck_usage_amendment_tokens CHECK (
        input_tokens >= 0 AND cached_input_tokens >= 0 AND output_tokens >= 0
    ),
    CONSTRAINT ck_usage_amendment_amount CHECK (amount >= 0)
);
CREATE INDEX ix_usage_amendment_organization_id ON usage_amendment (organization_id, created_at);
ALTER TABLE usage_amendment ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_amendment FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON usage_amendment TO farebox_app
    USING (organization_id = current_organization())
    WITH CHECK (organization_id = current_organization());
CREATE POLICY meter ON usage_amendment TO farebox_meter USING (true) WITH CHECK (true);
GRANT SELECT ON usage_amendment TO farebox_app;
GRANT SELECT, INSERT ON usage_amendment TO farebox_meter;
"""

REPLACED = ("admit", "settle", "rehold", "settle_late")


def upgrade() -> None:
    for statement in statements(TABLES):
        op.execute(statement)
    make_functions("0009", (*REPLACED, "amend"))


def downgrade() -> None:
    make_functions("0008", REPLACED)
    op.execute("DROP FUNCTION farebox_amend")
    op.execute("DROP TABLE usage_amendment")


def make_functions(version: str, names: tuple[str, ...]) -> None:
    for name in names:
        script = (Path(__file__).parent / "sql" / version / f"{name}.sql").read_text(encoding="utf-8")
        for statement in statements(script):
            op.execute(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
