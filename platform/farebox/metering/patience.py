"""Waiting for locks, as everybody does, until somebody keeps one for too long."""

import time
from collections.abc import Callable

import asyncpg

from farebox.core.database import is_contended
from farebox.metering.connection import MeterConnection

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class LockPatience:
    """Runs statements for many accounts at once, of which one may be locked by somebody else.

    As a rule a statement waits: what holds a lock is another replica's batch, for milliseconds. If the wait
    runs out, the statement is run again to pass over what is locked, and so are all others for a while,
    longer each time: whoever keeps a lock costs the accounts beside it one wait, and not one for each batch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits_again_at = 0.0
        self._pause = 0.0

    async def fetch(
        self, connection: MeterConnection, statement: str, *arguments: object
    ) -> list[asyncpg.Record]:
        """Run a statement whose last parameter says whether to pass over what is locked.

        Raises what `MeterConnection.fetch` raises.
        """
        if self._clock() >= self._waits_again_at:
            try:
                rows = await connection.fetch(statement, *arguments, False)
            except asyncpg.PostgresError as error:
                if not is_contended(error):
                    raise
                self._pause = min(max(2 * self._pause, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
                self._waits_again_at = self._clock() + self._pause
            else:
                self._pause = 0.0
                return rows
        return await connection.fetch(statement, *arguments, True)
