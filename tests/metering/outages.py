"""Leases that ran out, a Postgres that goes away, a disk that is full."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.postgres.embedded import EmbeddedPostgres


async def expire_leases(database: Database, organization_id: UUID) -> None:
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE hold SET lease_expires_at = now() - interval '1 s' WHERE organization_id = :id"),
            {"id": organization_id},
        )


async def expire_handover(database: Database, request_id: UUID) -> None:
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE handover SET lease_expires_at = now() - interval '1 s' WHERE request_id = :id"),
            {"id": request_id},
        )


class Outage:
    """A Postgres of its own, to be stopped and started."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = EmbeddedPostgres(directory)

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        """As a power cut would: no checkpoint, no flush."""
        pid = int((self.directory / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        while Path(f"/proc/{pid}").exists():
            os.sched_yield()

    def start(self) -> None:
        self.server = EmbeddedPostgres(self.directory)


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """The disk has no room for what this process writes to an open file."""
    (number,) = [
        int(each.name)
        for each in Path("/proc/self/fd").iterdir()
        if os.path.realpath(each) == os.path.realpath(path)
    ]
    # The same number leads elsewhere meanwhile; what it led to stays open, and locked.
    kept, full = os.dup(number), os.open("/dev/full", os.O_RDWR)
    os.dup2(full, number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
        os.close(full)
