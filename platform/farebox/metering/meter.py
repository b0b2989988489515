"""The meter: every request is admitted against its worst case and settled at what it used."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from farebox.core.errors import FareboxError, Unavailable
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.metering.admission import ADMIT, LEASE, Admission, Grant, admit_arguments, read_verdict
from farebox.metering.batcher import GroupCommit
from farebox.metering.connection import MeterConnection
from farebox.metering.leases import Leases
from farebox.metering.settlement import SETTLE, Posting, Settled, Settlement, make_posting, settle_arguments
from farebox.metering.spool import Spool

FIND_EVENTS = "SELECT request_id FROM usage_event WHERE request_id = ANY ($1)"
REPLAY_BATCH = 500
TURN_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Meter:
    """Admission and settlement for one process; any number of processes share one Postgres.

    Three connections, each running one statement at a time: admissions, settlements, and the
    once-a-second turn of checkpoints, spool replay and sweeping.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        spool: Spool,
        owner: UUID,
        *,
        restart_grace: timedelta = LEASE,
    ) -> None:
        self._settings = settings
        self._owner = owner
        self._spool = spool
        self._spool_lock = asyncio.Lock()
        self._spooled: dict[UUID, Posting] = {}
        self._grants: dict[UUID, Grant] = {}
        self._admitting = MeterConnection(database_url)
        self._settling = MeterConnection(database_url)
        self._turning = MeterConnection(database_url)
        self._admissions = GroupCommit[Admission, Grant | FareboxError](self._flush_admissions)
        self._settlements = GroupCommit[tuple[Grant, Posting], Settled](self._flush_settlements)
        self._leases = Leases(self._turning, self._grants, restart_grace)
        self._turns: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        settings: Settings,
        database_url: str,
        data_dir: Path,
        *,
        turn_seconds: float | None = TURN_SECONDS,
        restart_grace: timedelta = LEASE,
    ) -> "Meter":
        """Start metering. Replays what earlier processes spooled before it sweeps what they held.

        With `turn_seconds` None nothing happens by itself: the caller calls `turn`. For
        `restart_grace` after a start of Postgres nothing is swept: no owner has had the time to renew
        what it still serves.
        """
        owner = new_id()
        spool = await asyncio.to_thread(Spool, data_dir / "spool", owner)
        meter = cls(settings, database_url, spool, owner, restart_grace=restart_grace)
        await meter._adopt_spools()
        if turn_seconds is not None:
            meter._turns = asyncio.create_task(meter._take_turns(turn_seconds))
        return meter

    async def close(self) -> None:
        """Finish what is queued, replay the spool if Postgres is there, and let go."""
        if self._turns is not None:
            self._turns.cancel()
            await asyncio.gather(self._turns, return_exceptions=True)
        await self._admissions.drain()
        await self._settlements.drain()
        try:
            await self._replay()
        except Unavailable:
            log.warning("metering.spool_left", settlements=len(self._spooled))
        for connection in (self._admitting, self._settling, self._turning):
            await connection.close()
        self._spool.close()

    @property
    def live_requests(self) -> int:
        """Requests admitted and not yet settled."""
        return len(self._grants)

    @property
    def spooled_settlements(self) -> int:
        """Settlements on disk that Postgres has not taken yet."""
        return len(self._spooled)

    async def admit(self, admission: Admission) -> Grant:
        """Reserve the request's worst case under every limit at once, or refuse.

        Raises InvalidApiKey (401), QuotaExceeded (402), ModelNotFound (404), RateLimitExceeded
        (429) or Unavailable (503, within 5 s). A caller that is cancelled while waiting leaves no
        hold behind.
        """
        future = self._admissions.submit(admission)
        try:
            outcome = await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(self._void_unclaimed)
            raise
        if isinstance(outcome, Grant):
            return outcome
        raise outcome

    async def settle(self, grant: Grant, settlement: Settlement) -> Settled:
        """Resolve the grant's hold; the charge is durable when this returns.

        With Postgres away it is durable in the spool. Raises Unavailable when neither takes it:
        then nothing more may be sent to the client. Once queued, it goes through even if the
        caller is cancelled.
        """
        posting = make_posting(grant, settlement)
        return await asyncio.shield(self._settlements.submit((grant, posting)))

    async def turn(self) -> None:
        """Renew leases and record deliveries, replay the spool, settle what dead replicas left.

        Raises Unavailable when Postgres is away.
        """
        await self._leases.checkpoint()
        await self._replay()
        await self._leases.sweep()

    async def _take_turns(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.turn()
            except Unavailable:
                log.warning("metering.database_away", live=len(self._grants), spooled=len(self._spooled))
            except Exception:
                log.exception("metering.turn_failed")

    async def _flush_admissions(self, batch: Sequence[Admission]) -> list[Grant | FareboxError]:
        rows = await self._admitting.fetch(ADMIT, *admit_arguments(self._owner, self._settings, batch))
        outcomes = [read_verdict(admission, row) for admission, row in zip(batch, rows, strict=True)]
        for outcome in outcomes:
            if isinstance(outcome, Grant):
                self._grants[outcome.request_id] = outcome
        return outcomes

    async def _flush_settlements(self, batch: Sequence[tuple[Grant, Posting]]) -> list[Settled]:
        postings = [posting for _, posting in batch]
        try:
            rows = await self._settling.fetch(SETTLE, *settle_arguments(postings))
        except Unavailable:
            await self._spool_postings(postings)
            return [Settled(_charge(grant, p), grant.price.currency, spooled=True) for grant, p in batch]
        results = []
        for (grant, posting), row in zip(batch, rows, strict=True):
            self._grants.pop(grant.request_id, None)
            amount = row["amount"] if row["outcome"] == "settled" else _charge(grant, posting)
            results.append(Settled(amount, grant.price.currency))
        await _explain_absent(self._settling, postings, rows)
        return results

    def _void_unclaimed(self, future: "asyncio.Future[Grant | FareboxError]") -> None:
        if not future.cancelled() and not future.exception() and isinstance(grant := future.result(), Grant):
            nothing = Settlement(status="cancelled", input_tokens=0, cached_input_tokens=0, output_tokens=0)
            self._settlements.submit((grant, make_posting(grant, nothing)))

    async def _spool_postings(self, postings: Sequence[Posting]) -> None:
        async with self._spool_lock:
            try:
                await asyncio.to_thread(self._spool.append, postings)
            except OSError as error:
                log.exception("metering.spool_failed")
                raise Unavailable("Neither the database nor the spool takes settlements.") from error
            self._spooled |= {posting.request_id: posting for posting in postings}
        log.warning("metering.spooled", settlements=len(postings))

    async def _replay(self) -> None:
        """Post the spool. The holds' leases are kept meanwhile: the grants stay in `_grants`."""
        if not self._spooled:
            return
        async with self._spool_lock:
            postings = list(self._spooled.values())
            await self._post(postings)
            await asyncio.to_thread(self._spool.clear)
            for posting in postings:
                self._spooled.pop(posting.request_id)
                self._grants.pop(posting.request_id, None)
        log.info("metering.replayed", settlements=len(postings))

    async def _adopt_spools(self) -> None:
        for path, postings in await asyncio.to_thread(self._spool.adopt):
            await self._post(postings)
            await asyncio.to_thread(path.unlink, missing_ok=True)
            log.info("metering.adopted", settlements=len(postings))

    async def _post(self, postings: Sequence[Posting]) -> None:
        for start in range(0, len(postings), REPLAY_BATCH):
            batch = postings[start : start + REPLAY_BATCH]
            rows = await self._turning.fetch(SETTLE, *settle_arguments(batch))
            await _explain_absent(self._turning, batch, rows)


def _charge(grant: Grant, posting: Posting) -> Decimal:
    return grant.price.charge(posting.input_tokens, posting.cached_input_tokens, posting.output_tokens)


async def _explain_absent(
    connection: MeterConnection, postings: Sequence[Posting], rows: Sequence[Mapping[str, Any]]
) -> None:
    """A hold that is gone was settled before: by a try whose answer got lost, or by a sweep."""
    absent = [p.request_id for p, row in zip(postings, rows, strict=True) if row["outcome"] == "absent"]
    if not absent:
        return
    events = {row["request_id"] for row in await connection.fetch(FIND_EVENTS, absent)}
    for request_id in absent:
        if request_id in events:
            log.warning("metering.settled_before", request_id=str(request_id))
        else:
            log.error("metering.hold_lost", request_id=str(request_id))
