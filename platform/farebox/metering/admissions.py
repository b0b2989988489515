"""Asking for admission: all that arrived meanwhile in one round trip, and an account that is busy again."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID
from weakref import WeakValueDictionary

import asyncpg

from farebox.core.database import is_contended
from farebox.core.errors import FareboxError
from farebox.core.settings import Settings
from farebox.metering.admission import ADMIT, Admission, Grant, admit_arguments, read_verdict
from farebox.metering.batcher import GroupCommit
from farebox.metering.connection import MeterConnection
from farebox.metering.errors import Contended
from farebox.metering.patience import LockPatience

# How long a request waits for an account that somebody else keeps locked, and how often it looks: Postgres
# tells nobody but those who queue for the lock.
CONTENDED_SECONDS = 2.5
LOOK_SECONDS = 0.05

Verdict = Grant | FareboxError


class Admissions:
    """The admissions of one process.

    An admission counts for every replica at once but is not yet on disk when `admit` returns, which
    spares the client the wait for an fsync. If Postgres crashes just then, its hold is gone; the
    process that holds the grant bills it all the same.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        owner: UUID,
        patience: LockPatience,
        *,
        granted: Callable[[Grant], None],
        orphaned: Callable[[Grant], None],
    ) -> None:
        """`granted` hears of every grant before whoever asked; `orphaned` of those that nobody waits for any
        more."""
        self._settings = settings
        self._owner = owner
        self._patience = patience
        self._granted = granted
        self._orphaned = orphaned
        self._connection = MeterConnection(database_url, durable=False)
        self._batches = GroupCommit[Admission, Verdict](self._flush, orphaned=self._let_go)
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def admit(self, admission: Admission) -> Grant:
        """Raises what the verdict says, and Unavailable; Contended (503) among them. See `Meter.admit`."""
        verdict = await self._batches.ask(admission)
        if isinstance(verdict, Contended):
            verdict = await self._ask_again(admission, verdict)
        if isinstance(verdict, Grant):
            return verdict
        raise verdict

    async def drain(self) -> None:
        await self._batches.drain()

    async def close(self) -> None:
        await self._connection.close()

    async def _ask_again(self, admission: Admission, contended: Contended) -> Verdict:
        """One request of an organization at a time: the others would find the same."""
        turn = self._turns.setdefault(admission.organization_id, asyncio.Lock())
        try:
            async with asyncio.timeout(CONTENDED_SECONDS), turn:
                while True:
                    verdict = await self._batches.ask(admission)
                    if not isinstance(verdict, Contended):
                        return verdict
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            return contended

    async def _flush(self, batch: Sequence[Admission]) -> list[Verdict]:
        arguments = partial(admit_arguments, self._owner, self._settings)
        try:
            rows = await self._patience.fetch(self._connection, ADMIT, batch, arguments)
        except asyncpg.PostgresError as error:
            if len(batch) > 1 or not is_contended(error):
                raise
            return [Contended()]
        verdicts = [
            Contended() if row is None else read_verdict(admission, row)
            for admission, row in zip(batch, rows, strict=True)
        ]
        for verdict in verdicts:
            if isinstance(verdict, Grant):
                self._granted(verdict)
        return verdicts

    def _let_go(self, verdict: Verdict) -> None:
        if isinstance(verdict, Grant):
            self._orphaned(verdict)
