"""Leases that ran out, and a Postgres that goes away."""

import os
import signal
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
