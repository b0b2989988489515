"""`make check`: the migrations make what the models say, can be undone, and pass squawk."""

import io
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from alembic import command
from alembic.config import Config

from farebox.core.postgres.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[1]

# Rules for tables in use: these migrations make the first, empty ones. Types are chosen on purpose.
FIRST_TABLES = (
    "adding-foreign-key-constraint",
    "adding-not-nullable-field",
    "ban-char-field",
    "constraint-missing-not-valid",
    "disallowed-unique-constraint",
    "prefer-bigint-over-int",
    "prefer-text-field",
    "prefer-robust-stmts",
    "require-concurrent-index-creation",
    "require-timeout-settings",
)


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, EmbeddedPostgres(Path(directory) / "data") as server:
        config = Config(ROOT / "alembic.ini")
        config.attributes["url"] = server.url
        command.upgrade(config, "head")
        command.check(config)
        command.downgrade(config, "base")
        command.upgrade(config, "head")
    script = io.StringIO()
    offline = Config(ROOT / "alembic.ini", output_buffer=script)
    with redirect_stdout(script):
        command.upgrade(offline, "head", sql=True)
    squawk = Path(sys.executable).with_name("squawk")
    arguments = [str(squawk), "--pg-version", "15", "--exclude", ",".join(FIRST_TABLES)]
    return subprocess.run(arguments, input=script.getvalue(), text=True, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
