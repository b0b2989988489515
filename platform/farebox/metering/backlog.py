"""Settlements that wait for Postgres to come back, and those that dead processes left waiting."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog

from farebox.metering.connection import MeterConnection
from farebox.metering.halving import by_halves
from farebox.metering.handovers import confirm_left
from farebox.metering.patience import LockPatience
from farebox.metering.settlement import (
    SETTLE,
    SETTLE_LATE,
    Posting,
    settle_arguments,
    settle_late_arguments,
)
from farebox.metering.spool import Spool

REPLAY_BATCH = 500
REPLAYED_AT_ONCE = 2_000

log = structlog.get_logger(__name__)


class Booked(NamedTuple):
    """What a posting came to. `as_asked`: this very statement booked it, with the counts that it has."""

    amount: Decimal
    as_asked: bool


class Backlog:
    """The spool and its way back into Postgres. Replaying twice is harmless: a hold is resolved once."""

    def __init__(self, spool: Spool, connection: MeterConnection, patience: LockPatience) -> None:
        self._spool = spool
        self._connection = connection
        self._patience = patience
        # Of the spool's file. Nobody waits for Postgres with it, so nobody waits long for it.
        self._lock = asyncio.Lock()
        self._replaying = asyncio.Lock()
        self._noting = asyncio.Lock()
        self._waiting: dict[UUID, Posting] = {}
        self._unsaved: dict[UUID, Posting] = {}
        self._noted = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unsaved(self) -> int:
        """How many settlements the disk has not taken either: they are only in memory."""
        return len(self._unsaved)

    async def add(self, postings: Sequence[Posting]) -> None:
        """Put settlements on disk. What the disk does not take stays in memory, and is tried again."""
        if not postings:
            return
        async with self._lock:
            postings_by_id = {posting.request_id: posting for posting in postings}
            self._waiting |= postings_by_id
            self._unsaved |= postings_by_id
            await self._save()
        log.warning("metering.spooled", settlements=len(postings), unsaved=self.unsaved)

    async def note(self, deliveries: Sequence[Posting]) -> None:
        """While Postgres is away: keep on disk what live requests have delivered, and try again to save what
        the disk did not take."""
        async with self._noting:
            try:
                await asyncio.to_thread(self._spool.note_deliveries, deliveries)
                self._noted = bool(deliveries)
            except OSError:
                log.exception("metering.spool_failed")
        async with self._lock:
            await self._save()

    async def confirm(self, over: Collection[UUID]) -> None:
        """Put on disk which of the whole answers that wait have left for their clients: who adopts the spool
        bills no other."""
        left = [self._waiting[each] for each in over if each in self._waiting]
        confirmed = [msgspec.structs.replace(each, handed_over=True) for each in left if not each.handed_over]
        await self.add(confirmed)

    async def forget_deliveries(self) -> None:
        """Postgres has what was noted, and more."""
        async with self._noting:
            if not self._noted:
                return
            try:
                await asyncio.to_thread(self._spool.note_deliveries, ())
                self._noted = False
            except OSError:  # what stays is less than Postgres has, and is posted to no effect
                log.exception("metering.spool_failed")

    async def _save(self) -> None:
        if not self._unsaved:
            return
        try:
            await asyncio.to_thread(self._spool.append, list(self._unsaved.values()))
            self._unsaved.clear()
        except OSError:
            log.exception("metering.spool_failed")

    async def replay(self) -> list[UUID]:
        """Post some of what waits and forget it; the requests posted. Raises Unavailable.

        No more at once than goes through while leases last, which the same turn renews. What Postgres refuses
        goes on waiting, on disk as well, until somebody has mended the cause; what somebody keeps locked,
        until the lock is gone.
        """
        if not self._waiting:
            return []
        async with self._replaying:
            async with self._lock:
                await self._save()  # the disk may take by now what it did not
            part = list(islice(self._waiting.values(), REPLAYED_AT_ONCE))
            posted, _ = await self._post(part)
            # Adopted ones among them: of those nobody else knows that they have left for their clients.
            left = {posting.request_id for posting in part if posting.handed_over}
            if not await confirm_left(self._connection, [each for each in posted if each in left]):
                posted = [each for each in posted if each not in left]
            for posting in part:  # what stays goes to the end, and lets others by
                self._waiting[posting.request_id] = self._waiting.pop(posting.request_id)
            async with self._lock:
                for request_id in posted:
                    del self._waiting[request_id]
                    self._unsaved.pop(request_id, None)
                if not self._waiting:
                    await self._clear()
        log.info("metering.replayed", settlements=len(posted), left=len(self._waiting))
        return posted

    async def _clear(self) -> None:
        try:
            await asyncio.to_thread(self._spool.clear)
        except OSError:  # what stays is posted again by whoever adopts it, to no effect
            log.exception("metering.spool_failed")

    async def adopt(self) -> None:
        """Post what dead processes left in their spools. Raises Unavailable.

        What somebody keeps locked waits among this process's own. A spool of which Postgres refuses anything
        is left for the next start. A whole answer that had not left for its client is not billed; what had
        left is not credited.
        """
        spools = await asyncio.to_thread(self._spool.adopt)
        try:
            for spool in spools:
                posted, contended = await self._post([_as_left(each) for each in spool.postings])
                left = {each.request_id for each in spool.postings if each.handed_over}
                confirmed = await confirm_left(self._connection, [each for each in posted if each in left])
                await self.add(contended)
                taken = confirmed and len(posted) + len(contended) == len(spool.postings)
                if taken and not self.unsaved:
                    await asyncio.to_thread(spool.remove)
                log.info("metering.adopted", settlements=len(posted), contended=len(contended))
        finally:
            for spool in spools:
                spool.close()

    def close(self) -> None:
        if self._unsaved:
            log.error("metering.settlements_lost", requests=[str(each) for each in self._unsaved])
        self._spool.close()

    async def _post(self, postings: Sequence[Posting]) -> tuple[list[UUID], list[Posting]]:
        """The requests posted, and those that somebody keeps locked. One that cannot be posted keeps neither
        the others from it, nor a process from starting, nor the sweep that comes after."""
        posted: list[UUID] = []
        contended: list[Posting] = []

        def take(part: Sequence[Posting], booked: Sequence[Booked | None]) -> None:
            for posting, was in zip(part, booked, strict=True):
                if was is None:
                    contended.append(posting)
                else:
                    posted.append(posting.request_id)

        for start in range(0, len(postings), REPLAY_BATCH):
            await by_halves(
                postings[start : start + REPLAY_BATCH],
                partial(post, self._connection, self._patience),
                narrow=asyncpg.PostgresError,
                done=take,
                refused=_log_refusal,
            )
        return posted, contended


def _as_left(posting: Posting) -> Posting:
    """What a dead process left of a settlement: its client got no answer that was still to be handed over."""
    return posting if posting.handed_over else msgspec.structs.replace(posting, status="void")


def _log_refusal(posting: Posting, error: Exception) -> None:
    log.error("metering.replay_failed", request_id=str(posting.request_id), exc_info=error)


async def post(
    connection: MeterConnection, patience: LockPatience, postings: Sequence[Posting]
) -> list[Booked | None]:
    """Settle in Postgres, with or without a hold; what each posting came to, None for one that somebody keeps
    locked, of which nothing is booked. Raises Unavailable."""
    rows = await patience.fetch(connection, SETTLE, postings, settle_arguments)
    booked = {p.request_id: _booked(p, row) for p, row in zip(postings, rows, strict=True)}
    absent = [
        posting
        for posting, row in zip(postings, rows, strict=True)
        if row is not None and row["outcome"] == "absent" and posting.status != "void"
    ]
    if absent:
        booked |= await _post_late(connection, absent)
    return [booked[posting.request_id] for posting in postings]


async def _post_late(connection: MeterConnection, absent: Sequence[Posting]) -> dict[UUID, Booked | None]:
    """Settle what had no hold.

    Mostly it was settled before, by a try whose answer got lost, and all is well. Or a sweep settled it at
    its last checkpoint, while its owner could not reach Postgres: it is amended. Else a sweep voided the
    hold, or a crash of Postgres took it: it is billed now. Both as far as balance and caps reach, since what
    they no longer hold was not reserved.
    """
    rows = await connection.fetch(SETTLE_LATE, *settle_late_arguments(absent))
    found: dict[UUID, Booked | None] = {}
    for posting, row in zip(absent, rows, strict=True):
        booked = _booked(posting, row)
        if row["outcome"] == "absent":
            log.warning("metering.settled_before", request_id=str(posting.request_id))
        elif booked is not None:
            event = "metering.amended" if row["outcome"] == "amended" else "metering.settled_late"
            log.warning(event, request_id=str(posting.request_id), unpaid=posting.charge - booked.amount)
        # Of what is booked late nobody here knows whether it was with these counts.
        found[posting.request_id] = booked and booked._replace(as_asked=False)
    return found


def _booked(posting: Posting, row: Mapping[str, Any] | None) -> Booked | None:
    if row is None or row["outcome"] == "contended":
        return None
    # What was voided before says no amount, and came to none.
    amount: Decimal | None = row["amount"]
    return Booked(posting.charge if amount is None else amount, row["outcome"] == "settled")
