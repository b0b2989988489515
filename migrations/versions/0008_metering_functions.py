"""Admission, settlement, amendments, credits, checkpoints and sweeping, as this migration found them.

The text in `sql/0008` stays as it is. What the functions are today is to be read in
`farebox/metering/sql`: whoever changes one writes a migration with a frozen copy of its own.
"""

from pathlib import Path

from alembic import op

from farebox.core.sql import statements

revision = "0008_metering_functions"
down_revision = "0007_metering"

FUNCTIONS = ("admit", "settle", "rehold", "amend", "settle_late", "checkpoint", "sweep", "credit")


def upgrade() -> None:
    for name in FUNCTIONS:
        script = (Path(__file__).parent / "sql" / "0008" / f"{name}.sql").read_text(encoding="utf-8")
        for statement in statements(script):
            op.execute(statement)


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION farebox_{name}")
