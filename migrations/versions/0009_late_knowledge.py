"""Months and buckets under a clock that is set back.

The text in `sql/0009` stays as it is, as that in `sql/0008` does.
"""

from pathlib import Path

from alembic import op

from farebox.core.sql import statements

revision = "0009_late_knowledge"
down_revision = "0008_metering_functions"

FUNCTIONS = ("admit", "settle", "rehold")


def upgrade() -> None:
    replace_functions("0009")


def downgrade() -> None:
    replace_functions("0008")


def replace_functions(version: str) -> None:
    for name in FUNCTIONS:
        script = (Path(__file__).parent / "sql" / version / f"{name}.sql").read_text(encoding="utf-8")
        for statement in statements(script):
            op.execute(statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
