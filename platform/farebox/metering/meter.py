"""The meter: every request is admitted against its worst case and settled at what it used."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import structlog

from farebox.core.database import is_contended
from farebox.core.errors import Unavailable
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.metering.admission import LEASE, Admission, Grant
from farebox.metering.admissions import Admissions
from farebox.metering.backlog import Backlog, post
from farebox.metering.batcher import GroupCommit
from farebox.metering.connection import MeterConnection
from farebox.metering.handovers import Handovers
from farebox.metering.leases import Leases
from farebox.metering.patience import LockPatience
from farebox.metering.receipts.batch import Receipt, Sign
from farebox.metering.receipts.issuing import Submission, issue_receipts
from farebox.metering.settlement import Posting, Settled, Settlement, delivered_posting, make_posting
from farebox.metering.spool import Spool

# Together no more than a second, which is what may go unbilled of a process that dies: from one turn's begin
# to the next one's, and until what that one would record is noted on disk if Postgres does not answer it.
TURN_SECONDS = 0.75
NOTE_SECONDS = 0.25

log = structlog.get_logger(__name__)


class Meter:
    """Admission and settlement for one process; any number of processes share one Postgres.

    Three connections, each running one statement at a time: admissions, settlements, and the once-a-second
    turn of checkpoints, spool replay and sweeping.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        spool: Spool,
        owner: UUID,
        *,
        sweep_grace: timedelta = LEASE,
        sign: Sign | None = None,
    ) -> None:
        """`sign` signs receipts; without it there are none."""
        self._sign = sign
        self._grants: dict[UUID, Grant] = {}
        self._settling = MeterConnection(database_url)
        self._turning = MeterConnection(database_url)
        self._patience = LockPatience()
        self._admissions = Admissions(
            settings, database_url, owner, self._patience, granted=self._keep, orphaned=self._void
        )
        self._settlements = GroupCommit[Submission, Settled](self._flush_settlements)
        self._leases = Leases(self._turning, self._grants, owner, sweep_grace)
        self._handovers = Handovers(self._turning, self._grants.keys(), sweep_grace)
        self._backlog = Backlog(spool, self._turning, self._patience)
        self._turns: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        settings: Settings,
        database_url: str,
        data_dir: Path,
        *,
        turn_seconds: float | None = TURN_SECONDS,
        sweep_grace: timedelta = LEASE,
        sign: Sign | None = None,
    ) -> "Meter":
        """Start metering. Replays what earlier processes spooled before it sweeps what they held.

        With `turn_seconds` None nothing happens by itself: the caller calls `turn`. For
        `sweep_grace` after connecting nothing is swept: after a start of Postgres, no owner has had
        the time to renew what it still serves.
        """
        owner = new_id()
        spool = await asyncio.to_thread(Spool, data_dir / "spool", owner)
        meter = cls(settings, database_url, spool, owner, sweep_grace=sweep_grace, sign=sign)
        await meter._backlog.adopt()
        if turn_seconds is not None:
            meter._turns = asyncio.create_task(meter._take_turns(turn_seconds))
        return meter

    async def close(self) -> None:
        """Finish what is queued, replay the spool if Postgres is there, and let go."""
        if self._turns is not None:
            self._turns.cancel()
            await asyncio.gather(self._turns, return_exceptions=True)
        await self.drain()
        try:
            while await self._replay():
                pass
            await self._handovers.record()
            if not self._grants:
                await self._backlog.forget_deliveries()
        except Unavailable:
            log.warning("metering.spool_left", settlements=len(self._backlog))
            await self._note()
        for connection in (self._admissions, self._settling, self._turning):
            await connection.close()
        self._backlog.close()

    @property
    def issues_receipts(self) -> bool:
        """Whether what is settled gets a receipt."""
        return self._sign is not None

    @property
    def live_requests(self) -> int:
        """Requests admitted and not yet settled."""
        return len(self._grants)

    @property
    def spooled_settlements(self) -> int:
        """Settlements on disk that Postgres has not taken yet."""
        return len(self._backlog)

    async def admit(self, admission: Admission) -> Grant:
        """Reserve the request's worst case under every limit at once, or refuse.

        Raises InvalidApiKey (401), QuotaExceeded (402), ModelNotFound (404), RateLimitExceeded
        (429) or Unavailable (503, within 5 s; and as long as settlements wait that the disk did not take).
        A caller that is cancelled while waiting leaves no hold behind.
        """
        if self._backlog.unsaved:
            raise Unavailable("Metering can neither book nor keep what was used; please try again.")
        return await self._admissions.admit(admission)

    async def settle(
        self, grant: Grant, settlement: Settlement, *, model_sha256: str | None = None
    ) -> Settled:
        """Resolve the grant's hold; the charge is durable when this returns.

        With Postgres away it is durable in the spool. If the disk does not take it either, it is kept in
        memory and tried again, and nothing new is admitted meanwhile. Once queued, it goes through even if
        the caller is cancelled.

        What is to be handed over is credited again unless `hand_over` says that it was. `model_sha256` is the
        hash of the weights that answered, for the receipt.
        """
        grant.begin_settling()
        posting = make_posting(grant, settlement)
        if settlement.to_be_handed_over:
            self._handovers.expect(posting)
        # Shielded: the lease must be renewed until the settlement is through, cancelled caller or not.
        return await asyncio.shield(self._submit(grant, posting, model_sha256))

    def hand_over(self, grant: Grant, *, reached: bool) -> bool:
        """Note that a whole answer has left for its client, or that nobody was there to take it.

        Whether its bill will be credited: not if it was none that was to be handed over.
        """
        return self._handovers.end(grant.request_id, reached=reached)

    async def drain(self) -> None:
        """Wait until what is queued has been answered: admissions, then settlements."""
        for queue in (self._admissions, self._settlements):
            await queue.drain()

    async def turn(self) -> None:
        """Renew leases and record deliveries, replay the spool, settle and credit what dead replicas left.

        Raises Unavailable when Postgres is away. As long as it is, or does not answer at once, what was
        delivered and what has left is noted on disk instead.
        """
        working = asyncio.create_task(self._renew_replay_sweep())
        try:
            while not (await asyncio.wait({working}, timeout=NOTE_SECONDS))[0]:
                await self._note()
            await working
        except Unavailable:
            await self._note()
            raise
        finally:
            working.cancel()

    async def _renew_replay_sweep(self) -> None:
        recorded = await self._leases.checkpoint()
        await self._handovers.record()
        if recorded:
            await self._backlog.forget_deliveries()
        await self._replay()
        await self.sweep()

    async def _note(self) -> None:
        await self._backlog.note([*self._deliveries(), *self._handovers.unconfirmed])
        await self._backlog.confirm(self._handovers.over)

    async def _replay(self) -> bool:
        """Whether anything was posted."""
        await self._backlog.confirm(self._handovers.over)
        posted = await self._backlog.replay()
        for request_id in posted:
            self._grants.pop(request_id, None)
        return bool(posted)

    async def sweep(self) -> None:
        """The last part of a turn: settle and credit what dead replicas left.

        Raises Unavailable when Postgres is away.
        """
        await self._leases.sweep()
        await self._handovers.sweep()

    def _deliveries(self) -> list[Posting]:
        return [delivered_posting(each) for each in self._grants.values() if each.delivered]

    async def _take_turns(self, seconds: float) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            await asyncio.sleep(began + seconds - clock())
            began = clock()
            try:
                await self.turn()
            except Unavailable:
                log.warning("metering.database_away", live=len(self._grants), spooled=len(self._backlog))
            except Exception:
                log.exception("metering.turn_failed")

    async def _flush_settlements(self, batch: Sequence[Submission]) -> list[Settled]:
        postings = [each.posting for each in batch]
        try:
            booked = await post(self._settling, self._patience, postings)
        except (Unavailable, asyncpg.PostgresError) as error:
            if isinstance(error, asyncpg.PostgresError) and (len(batch) > 1 or not is_contended(error)):
                raise
            booked = [None] * len(batch)
        await self._backlog.add([each for each, was in zip(postings, booked, strict=True) if was is None])
        receipts: Sequence[Receipt | None] = [None] * len(batch)
        if self._sign is not None:
            receipts = issue_receipts(batch, booked, self._sign)
        return [
            Settled(p.charge if was is None else was.amount, p.price.currency, was is None, receipt)
            for p, was, receipt in zip(postings, booked, receipts, strict=True)
        ]

    def _keep(self, grant: Grant) -> None:
        self._grants[grant.request_id] = grant

    def _submit(
        self, grant: Grant, posting: Posting, model_sha256: str | None = None
    ) -> "asyncio.Future[Settled]":
        future = self._settlements.submit(Submission(posting, model_sha256))
        # Whatever comes of it, this process no longer renews the lease, so that a sweep can settle
        # what could not be settled here. A spooled request is kept until it is replayed.
        future.add_done_callback(lambda done: self._release(grant, done))
        return future

    def _release(self, grant: Grant, future: "asyncio.Future[Settled]") -> None:
        if future.exception() or not future.result().spooled:
            self._grants.pop(grant.request_id, None)

    def _void(self, grant: Grant) -> None:
        """Give back an admission that nobody waits for any more."""
        grant.begin_settling()
        nothing = Settlement(status="cancelled", input_tokens=0, cached_input_tokens=0, output_tokens=0)
        self._submit(grant, make_posting(grant, nothing))
