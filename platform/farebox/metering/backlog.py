"""Settlements that wait for Postgres to come back, and those that dead processes left waiting."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog

from farebox.core.errors import Unavailable
from farebox.metering.connection import MeterConnection
from farebox.metering.settlement import SETTLE, Posting, settle_arguments
from farebox.metering.spool import Spool

FIND_EVENTS = "SELECT request_id FROM usage_event WHERE request_id = ANY ($1)"
REPLAY_BATCH = 500

log = structlog.get_logger(__name__)


class Backlog:
    """The spool and its way back into Postgres. Replaying twice is harmless: a hold is resolved once."""

    def __init__(self, spool: Spool, connection: MeterConnection) -> None:
        self._spool = spool
        self._connection = connection
        self._lock = asyncio.Lock()
        self._waiting: dict[UUID, Posting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def add(self, postings: Sequence[Posting]) -> None:
        """Put settlements on disk. Raises Unavailable when the disk does not take them either."""
        async with self._lock:
            try:
                await asyncio.to_thread(self._spool.append, postings)
            except OSError as error:
                log.exception("metering.spool_failed")
                raise Unavailable("Neither the database nor the spool takes settlements.") from error
            self._waiting |= {posting.request_id: posting for posting in postings}
        log.warning("metering.spooled", settlements=len(postings))

    async def replay(self) -> list[UUID]:
        """Post what waits and forget it; the requests posted. Raises Unavailable."""
        if not self._waiting:
            return []
        async with self._lock:
            postings = list(self._waiting.values())
            await self._post(postings)
            await asyncio.to_thread(self._spool.clear)
            self._waiting.clear()
        log.info("metering.replayed", settlements=len(postings))
        return [posting.request_id for posting in postings]

    async def adopt(self) -> None:
        """Post what dead processes left in their spools. Raises Unavailable."""
        for path, postings in await asyncio.to_thread(self._spool.adopt):
            await self._post(postings)
            await asyncio.to_thread(path.unlink, missing_ok=True)
            log.info("metering.adopted", settlements=len(postings))

    def close(self) -> None:
        self._spool.close()

    async def _post(self, postings: Sequence[Posting]) -> None:
        for start in range(0, len(postings), REPLAY_BATCH):
            batch = postings[start : start + REPLAY_BATCH]
            rows = await self._connection.fetch(SETTLE, *settle_arguments(batch))
            await find_lost(self._connection, batch, rows)


async def find_lost(
    connection: MeterConnection, postings: Sequence[Posting], rows: Sequence[Mapping[str, Any]]
) -> set[UUID]:
    """Of the settlements that found no hold, those that left no usage event either.

    A hold that is gone was mostly settled before, by a try whose answer got lost or by a sweep, and
    all is well. One without an event was lost with a crash of Postgres before it was durable, or
    voided by a sweep after its owner had been silent for a whole lease.
    """
    absent = {
        posting.request_id
        for posting, row in zip(postings, rows, strict=True)
        if row["outcome"] == "absent" and posting.status != "void"
    }
    if not absent:
        return absent
    events = {row["request_id"] for row in await connection.fetch(FIND_EVENTS, list(absent))}
    for request_id in absent:
        if request_id in events:
            log.warning("metering.settled_before", request_id=str(request_id))
        else:
            log.error("metering.hold_lost", request_id=str(request_id))
    return absent - events
