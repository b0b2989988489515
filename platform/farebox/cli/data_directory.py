"""Who works in the data directory, and the Postgres that serves whoever does."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from farebox.cli.errors import CommandFailed
from farebox.core.postgres.embedded import EmbeddedPostgres, PostgresError
from farebox.core.settings import Settings

LOCK = "lock"
COMMAND_SECONDS = 5.0
START_SECONDS = 60.0
POLL_SECONDS = 0.1


class DataUnusable(CommandFailed):
    """The data directory cannot be made or written in."""


class DataInUse(CommandFailed):
    """Another process works in the data directory."""


class NothingHere(CommandFailed):
    """No database is configured, and the data directory has none: the command was called elsewhere."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            f"There is no Farebox in {settings.data_dir.absolute()}, and FAREBOX_DATABASE_URL is not set."
            " Go to the directory where `farebox up` ran, or set FAREBOX_DATA to its data directory;"
            " `farebox up` founds a new one here."
        )


@contextmanager
def held(directory: Path, *, patience_seconds: float = 0.0) -> Iterator[None]:
    """Be the only one to start and stop Postgres in `directory`.

    The kernel lets go of the lock when the process ends, however it ends. Raises DataInUse, after
    `patience_seconds`, when another process holds it, and DataUnusable.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataUnusable(
            f"Farebox cannot work in {directory}: {error.strerror}."
            " Set FAREBOX_DATA to a directory of its own."
        ) from None
    try:
        _lock(file, directory, time.monotonic() + patience_seconds)
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


def _lock(file: int, directory: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(file, 20, 0).decode() or "unknown"
                raise DataInUse(
                    f"Farebox is running on {directory} already (process {holder}). Stop it first, or set"
                    " FAREBOX_DATA to another directory."
                ) from None
            time.sleep(POLL_SECONDS)


@contextmanager
def own_postgres(settings: Settings) -> Iterator[str]:
    """The database's URL for `farebox up`: the configured one, or the embedded one, kept to itself.

    The directory is held in either case: one process may found the demo organization in it.
    """
    with held(settings.data_dir, patience_seconds=COMMAND_SECONDS), ExitStack() as stack:
        yield settings.database_url or stack.enter_context(_embedded(settings)).url


@contextmanager
def any_postgres(settings: Settings) -> Iterator[str]:
    """The database's URL for a command: the configured one, that of a running server, or one's own.

    Founds nothing, not even a directory. Raises NothingHere.
    """
    with ExitStack() as stack:
        if settings.database_url:
            yield settings.database_url
            return
        if not _is_founded(settings):
            raise NothingHere(settings)
        try:
            stack.enter_context(held(settings.data_dir))
        except DataInUse:
            yield _await_url(settings)
        else:
            # The lock alone is what `farebox up` leaves when it ends before it has made a cluster.
            if not postgres_directory(settings).exists():
                raise NothingHere(settings)
            yield stack.enter_context(_embedded(settings)).url


def _is_founded(settings: Settings) -> bool:
    """Whether somebody has begun to work here; a file in the directory's place is for `held` to tell."""
    directory = settings.data_dir
    if directory.exists() and not directory.is_dir():
        return True
    return (directory / LOCK).exists() or postgres_directory(settings).exists()


def postgres_directory(settings: Settings) -> Path:
    """Where the embedded Postgres has its data."""
    return settings.data_dir / "postgres"


def _embedded(settings: Settings) -> EmbeddedPostgres:
    return EmbeddedPostgres(postgres_directory(settings))


def _await_url(settings: Settings) -> str:
    deadline = time.monotonic() + START_SECONDS
    while (url := EmbeddedPostgres.running_url(postgres_directory(settings))) is None:
        if time.monotonic() > deadline:
            raise PostgresError(
                f"Another process holds {settings.data_dir}, but its Postgres does not start."
            )
        time.sleep(POLL_SECONDS)
    return url
