"""The worker: does what the outbox holds, and sweeps out what has expired."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import text

from farebox.auth import tasks as auth
from farebox.auth.unverified import remove_unverified
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.settings import Settings

Handler = Callable[[Database, Settings, dict[str, Any]], Awaitable[None]]

BATCH = 10
POLL_SECONDS = 1.0
HANDLER_SECONDS = 45.0
# Past this, whoever claimed an item is taken for dead and the item for undone.
LEASE_SECONDS = 60.0
MAX_ATTEMPTS = 20  # spread over about nine hours
LONGEST_PAUSE_SECONDS = 3600.0
SWEEP_SECONDS = 300.0

# Claimed by moving its next attempt past the lease: no transaction stays open while a mail is sent.
_CLAIM = text("""
UPDATE outbox SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => :lease)
WHERE id IN (
    SELECT id FROM outbox WHERE next_attempt_at <= now()
    ORDER BY next_attempt_at LIMIT :batch FOR UPDATE SKIP LOCKED
)
RETURNING id, topic, payload, attempts
""")
_DONE = text("DELETE FROM outbox WHERE id = :id")
# No pause means never: the item stays for the operator to see, with its error.
_FAILED = text("""
UPDATE outbox SET last_error = :error,
    next_attempt_at = coalesce(now() + make_interval(secs => :pause), 'infinity')
WHERE id = :id
""")
_TAKE_UP = text("UPDATE outbox SET attempts = 0, next_attempt_at = now() WHERE next_attempt_at = 'infinity'")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Deed:
    """A claimed outbox item; `attempt` counts from 1."""

    id: int
    topic: str
    payload: dict[str, Any]
    attempt: int


class Worker:
    """Any number of these may run, in any process: each item is claimed by one at a time.

    An item is done at least once. One that fails is tried again after a pause that doubles, up to
    MAX_ATTEMPTS times; then it stays in the table with its last error.
    """

    def __init__(
        self, database: Database, settings: Settings, handlers: Mapping[str, Handler] | None = None
    ) -> None:
        self._database = database
        self._settings = settings
        self._handlers = auth.HANDLERS if handlers is None else handlers
        self._stopping = asyncio.Event()
        self._sweep_at = time.monotonic()

    async def run(self) -> None:
        """Work until `stop`; what is under way then is finished."""
        while not self._stopping.is_set():
            if not await self._turn():
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()

    async def work_off(self) -> int:
        """Claim a batch of what is due and do it; returns how many items that were.

        Raises Unavailable when Postgres is away.
        """
        deeds = await self._claim()
        # All are waited for, so that none goes on unseen after the first has met a database that is away.
        outcomes = await asyncio.gather(*(self._do(deed) for deed in deeds), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return len(deeds)

    async def take_up_again(self) -> None:
        """Make due what was given up, with all its attempts. Raises Unavailable when Postgres is away."""
        async with self._database.meter_transaction() as session:
            await session.execute(_TAKE_UP)

    async def sweep(self) -> None:
        """Delete what has expired and what nobody confirmed. Raises Unavailable when Postgres is away."""
        async with self._database.meter_transaction() as session:
            await auth.sweep(session)
        if self._settings.production:
            async with self._database.meter_transaction() as session:
                await remove_unverified(session)

    async def _turn(self) -> bool:
        """Whether there was something to do."""
        try:
            if time.monotonic() >= self._sweep_at:
                self._sweep_at = time.monotonic() + SWEEP_SECONDS
                await self.sweep()
            return await self.work_off() > 0
        except Unavailable:
            log.warning("worker.database_away")
        except Exception:
            # Whatever one turn met, the next one may not; a worker that is gone sends no mail at all.
            log.exception("worker.turn_failed")
        return False

    async def _claim(self) -> list[Deed]:
        async with self._database.meter_transaction() as session:
            rows = await session.execute(_CLAIM, {"lease": LEASE_SECONDS, "batch": BATCH})
            return [Deed(row.id, row.topic, row.payload, row.attempts) for row in rows]

    async def _do(self, deed: Deed) -> None:
        try:
            handler = self._handlers.get(deed.topic)
            if handler is None:
                # During an upgrade a newer replica may post what only a newer worker can do.
                raise LookupError(f"no handler for the topic {deed.topic}")
            async with asyncio.timeout(HANDLER_SECONDS):
                await handler(self._database, self._settings, deed.payload)
        except Exception as error:
            await self._postpone(deed, error)
            return
        async with self._database.meter_transaction() as session:
            await session.execute(_DONE, {"id": deed.id})

    async def _postpone(self, deed: Deed, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[:500]
        pause = pause_after(deed.attempt)
        if pause is None:
            log.error("outbox.given_up", id=deed.id, topic=deed.topic, reason=reason)
        else:
            log.warning("outbox.failed", id=deed.id, topic=deed.topic, reason=reason, attempt=deed.attempt)
        async with self._database.meter_transaction() as session:
            await session.execute(_FAILED, {"id": deed.id, "error": reason, "pause": pause})


def pause_after(attempt: int) -> float | None:
    """Seconds to the next attempt: 2, 4, 8… with a quarter of jitter either way; None for no more."""
    if attempt >= MAX_ATTEMPTS:
        return None
    return min(2.0**attempt, LONGEST_PAUSE_SECONDS) * random.uniform(0.75, 1.25)  # noqa: S311  no secret
