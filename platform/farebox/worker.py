"""The worker: does what the outbox holds, and sweeps out what has expired."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from farebox.core import outbox
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.outbox import ClaimedItem, Handler
from farebox.core.settings import Settings

# Removes what has expired, in transactions of its own (`Database.meter_transaction`), as often as the worker
# likes.
Sweep = Callable[[Database], Awaitable[object]]

BATCH = 10
POLL_SECONDS = 1.0
HANDLER_SECONDS = 45.0
# Past this, whoever claimed an item is taken for dead and the item for undone.
LEASE_SECONDS = 60.0
MAX_ATTEMPTS = 20  # spread over about nine hours
LONGEST_PAUSE_SECONDS = 3600.0
SWEEP_SECONDS = 300.0
WATCH_SECONDS = 15.0

log = structlog.get_logger(__name__)


class Worker:
    """Any number of these may run, in any process: each item is claimed by one at a time.

    `handlers` do the items, by topic; `sweeps` run one after the other, and so do `watches`, more often.
    `long_sweeps`, which may take minutes, run beside all that.

    An item is done at least once. One that fails is tried again after a pause that doubles, up to
    MAX_ATTEMPTS times, or as many as `patience` has for its topic; then it stays in the table with its last
    error. After an hour it is an alarm in the log.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        handlers: Mapping[str, Handler],
        sweeps: Sequence[Sweep] = (),
        *,
        long_sweeps: Sequence[Sweep] = (),
        watches: Sequence[Sweep] = (),
        patience: Mapping[str, int] | None = None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._handlers = handlers
        self._sweeps = sweeps
        self._long_sweeps = long_sweeps
        self._watches = watches
        self._patience = patience or {}
        self._stopping = asyncio.Event()
        self._sweep_at = self._watch_at = time.monotonic()

    async def run(self) -> None:
        """Work until `stop`; what is under way then is finished, but for long sweeps."""
        beside = asyncio.create_task(self._sweep_beside(), name="long-sweeps")
        try:
            while not self._stopping.is_set():
                if not await self._turn():
                    await self._pause(POLL_SECONDS)
        finally:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)

    def stop(self) -> None:
        self._stopping.set()

    async def work_off(self) -> int:
        """Claim a batch of what is due and do it; returns how many items that were.

        Raises Unavailable when Postgres is away.
        """
        async with self._database.meter_transaction() as session:
            items = await outbox.claim(session, limit=BATCH, lease_seconds=LEASE_SECONDS)
        # All are waited for, so that none goes on unseen after the first has met a database that is away.
        outcomes = await asyncio.gather(*(self._do(item) for item in items), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        return len(items)

    async def retry_given_up(self) -> None:
        """Make due what was given up, with all its attempts. Raises Unavailable when Postgres is away."""
        async with self._database.meter_transaction() as session:
            await outbox.retry_given_up(session)

    async def sweep(self) -> None:
        """Run all sweeps, the long ones too. Raises Unavailable when Postgres is away."""
        for sweep in (*self._sweeps, *self._long_sweeps):
            await sweep(self._database)

    async def _sweep_beside(self) -> None:
        while not self._stopping.is_set():
            await self._sweep_all(self._long_sweeps)
            await self._pause(SWEEP_SECONDS)

    async def _sweep_all(self, sweeps: Sequence[Sweep]) -> None:
        """Whatever one of them meets, the others are run."""
        for sweep in sweeps:
            try:
                await sweep(self._database)
            except Unavailable:
                log.warning("worker.database_away")
            except Exception:
                log.exception("worker.sweep_failed")

    async def _pause(self, seconds: float) -> None:
        """Until somebody says `stop`, or so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def watch(self) -> None:
        """Look after what cannot wait for the next sweep. Raises Unavailable when Postgres is away."""
        for watch in self._watches:
            await watch(self._database)

    async def _turn(self) -> bool:
        """Whether there was something to do."""
        try:
            if time.monotonic() >= self._sweep_at:
                self._sweep_at = time.monotonic() + SWEEP_SECONDS
                await self._sweep_all(self._sweeps)
            if time.monotonic() >= self._watch_at:
                self._watch_at = time.monotonic() + WATCH_SECONDS
                await self._sweep_all(self._watches)
            return await self.work_off() > 0
        except Unavailable:
            log.warning("worker.database_away")
        except Exception:
            # Whatever one turn met, the next one may not; a worker that is gone sends no mail at all.
            log.exception("worker.turn_failed")
        return False

    async def _do(self, item: ClaimedItem) -> None:
        try:
            handler = self._handlers.get(item.topic)
            if handler is None:
                # During an upgrade a newer replica may post what only a newer worker can do.
                raise LookupError(f"no handler for the topic {item.topic}")
            async with asyncio.timeout(HANDLER_SECONDS):
                await handler(self._database, self._settings, item.payload)
        except Exception as error:
            await self._postpone(item, error)
            return
        async with self._database.meter_transaction() as session:
            await outbox.finish(session, item)

    async def _postpone(self, item: ClaimedItem, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}"[:500]
        pause = pause_after(item.attempt, self._patience.get(item.topic, MAX_ATTEMPTS))
        if item.overdue:
            age = int(item.age_seconds)
            log.error("outbox.overdue", id=item.id, topic=item.topic, reason=reason, seconds=age)
        if pause is None:
            log.error("outbox.given_up", id=item.id, topic=item.topic, reason=reason)
        else:
            log.warning("outbox.failed", id=item.id, topic=item.topic, reason=reason, attempt=item.attempt)
        async with self._database.meter_transaction() as session:
            await outbox.postpone(session, item, error=reason, pause_seconds=pause)


def pause_after(attempt: int, at_most: int = MAX_ATTEMPTS) -> float | None:
    """Seconds to the next attempt: 2, 4, 8… with a quarter of jitter either way; None for no more.

    From the twelfth on they are an hour apart.
    """
    if attempt >= at_most:
        return None
    return min(2.0 ** min(attempt, 12), LONGEST_PAUSE_SECONDS) * random.uniform(0.75, 1.25)  # noqa: S311  no secret
