"""The real `farebox` command, called in this process or as one of its own."""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner

from farebox.cli.main import farebox
from farebox.core.logs import REQUEST_LOG
from tests.tenants.factories import SECRET_KEY

SECONDS = 120


@dataclass(frozen=True)
class Answer:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """The document on standard output, of a command that succeeded."""
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def refusal(self) -> str:
        """What a command that failed says of it, without frames and line breaks."""
        assert self.status != 0, self.out
        assert self.out == ""
        assert "Traceback" not in self.err
        return re.sub(r"[│╭╮╰╯─\s]+", " ", self.err).strip()


@dataclass(frozen=True)
class Farebox:
    """An operator's shell: a working directory, and settings in the environment."""

    directory: Path
    settings: dict[str, str] = field(default_factory=dict)

    def set(self, **settings: str | None) -> "Farebox":
        """The same shell with other settings; None unsets one."""
        merged: dict[str, str | None] = {**self.settings, **settings}
        return replace(self, settings={name: value for name, value in merged.items() if value is not None})

    def run(self, *arguments: str | Path) -> Answer:
        """Call a command in this process, which spares the start of another: that takes seconds."""
        environment = dict.fromkeys(name for name in os.environ if name.startswith("FAREBOX_"))
        with logs_kept(), contextlib.chdir(self.directory), ThreadPoolExecutor(1) as thread:
            # In a thread, since a command runs an event loop of its own, and the test may, too.
            done = thread.submit(
                CliRunner().invoke,
                farebox,
                [*map(str, arguments)],
                prog_name="farebox",
                env=environment | self.environment(),
                catch_exceptions=False,
            ).result()
        return Answer(done.exit_code, done.stdout, done.stderr)

    def spawn(self, *arguments: str | Path) -> Answer:
        """Call a command as an operator does, as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "farebox.cli", *map(str, arguments)],
            cwd=self.directory,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str | Path) -> Any:
        """What the command answers with `--json`."""
        return self.run(*arguments, "--json").json()

    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
        return inherited | {f"FAREBOX_{name.upper()}": value for name, value in self.settings.items()}


@contextlib.contextmanager
def logs_kept() -> Iterator[None]:
    """Undo what a command does to the logs of its process."""
    before, lines, root = structlog.get_config(), REQUEST_LOG.lines, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # else they would be closed
    try:
        yield
    finally:
        structlog.configure(**before)
        REQUEST_LOG.lines = lines
        root.handlers[:] = handlers
        root.setLevel(level)


def shell(directory: Path, database_url: str | None = None, **settings: str) -> Farebox:
    """An operator's shell on a database, or on an embedded one in `directory`."""
    known = {"data": str(directory / "data"), "engine_threads": "1", **settings}
    if database_url is not None:
        known |= {"database_url": database_url, "secret_key": SECRET_KEY}
    return Farebox(directory, known)
