"""Waiting for locks, as everybody does, but for no account that somebody keeps locked."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

import asyncpg
import structlog

from farebox.core.database import is_contended
from farebox.metering.connection import MeterConnection

# An account that nobody asks for is forgotten, whatever became of its lock.
FORGOTTEN_AFTER_SECONDS = 600.0

log = structlog.get_logger(__name__)


class Owned(Protocol):
    """What belongs to an organization."""

    @property
    def organization_id(self) -> UUID: ...


Item = TypeVar("Item", bound=Owned)


class LockPatience:
    """Runs statements for many accounts at once, of which one may be locked by somebody else.

    As a rule a statement waits: what holds a lock is another replica's batch, for milliseconds. If the wait
    runs out, it is run again to pass over what is locked. From then on the accounts that it passed over are
    asked for apart, and not waited for, until one is found free: whoever keeps a lock costs the accounts
    beside it one wait, and not one for each batch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._locked: dict[UUID, float] = {}

    async def fetch(
        self,
        connection: MeterConnection,
        statement: str,
        items: Sequence[Item],
        arguments: Callable[[Sequence[Item]], tuple[Any, ...]],
    ) -> list[asyncpg.Record | None]:
        """A row for each item, in their order; None for one that is passed over, of which nothing is done.

        `arguments` are those of the statement for some of the items; its last parameter, behind them, says
        whether to pass over what is locked. The first column of a row is `contended` where it did.
        Raises what `MeterConnection.fetch` raises; asyncpg.PostgresError only if nothing was done at all.
        """
        if self._locked:
            self._forget_old()
        apart = [item.organization_id in self._locked for item in items]
        calm = [item for item, locked in zip(items, apart, strict=True) if not locked]
        suspect = [item for item, locked in zip(items, apart, strict=True) if locked]
        calm_rows = iter(await self._fetch_calm(connection, statement, calm, arguments))
        suspect_rows = iter(await self._fetch_suspect(connection, statement, suspect, arguments))
        return [next(suspect_rows) if locked else next(calm_rows) for locked in apart]

    async def _fetch_calm(
        self,
        connection: MeterConnection,
        statement: str,
        items: Sequence[Item],
        arguments: Callable[[Sequence[Item]], tuple[Any, ...]],
    ) -> list[asyncpg.Record | None]:
        if not items:
            return []
        try:
            return [*await connection.fetch(statement, *arguments(items), False)]
        except asyncpg.PostgresError as error:
            if not is_contended(error):
                raise
        rows = await connection.fetch(statement, *arguments(items), True)
        now = self._clock()
        for item, row in zip(items, rows, strict=True):
            if row[0] == "contended":
                self._locked[item.organization_id] = now
        return [_or_none(row) for row in rows]

    async def _fetch_suspect(
        self,
        connection: MeterConnection,
        statement: str,
        items: Sequence[Item],
        arguments: Callable[[Sequence[Item]], tuple[Any, ...]],
    ) -> list[asyncpg.Record | None]:
        if not items:
            return []
        try:
            rows = await connection.fetch(statement, *arguments(items), True)
        except asyncpg.PostgresError:
            # The others' part is done, and must not be asked for again.
            log.exception("metering.suspects_failed", items=len(items))
            return [None] * len(items)
        for item, row in zip(items, rows, strict=True):
            if row[0] != "contended":
                self._locked.pop(item.organization_id, None)
        return [_or_none(row) for row in rows]

    def _forget_old(self) -> None:
        since = self._clock() - FORGOTTEN_AFTER_SECONDS
        for organization_id in [each for each, found in self._locked.items() if found < since]:
            del self._locked[organization_id]


def _or_none(row: asyncpg.Record) -> asyncpg.Record | None:
    return None if row[0] == "contended" else row
