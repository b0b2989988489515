"""One connection to Postgres that comes back by itself."""

import asyncio
import time
from typing import Any

import asyncpg

from farebox.core.database import COMMAND_TIMEOUT_SECONDS, is_away, open_connection
from farebox.core.errors import Unavailable

# A plan is cached while the tables are small and must still be right when they are large: every join of
# the metering functions is an index lookup. Set on the connection: planning anew costs 0.4 ms a call.
PLANNER = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# A batch waits this long for one account's lock; then it passes it over (see `LockPatience`).
LOCK_TIMEOUT = "250ms"
PATIENCE_SECONDS = COMMAND_TIMEOUT_SECONDS + 1.0


class MeterConnection:
    """A `farebox_meter` connection, opened at first use and again after a loss.

    One statement at a time, in the order of asking. Unless `durable`, what it
    commits can be seen at once but survives a crash of Postgres only once a later durable commit,
    of any connection, has followed it.
    """

    def __init__(self, database_url: str, *, durable: bool = True) -> None:
        self._url = database_url
        self._settings = PLANNER | {"lock_timeout": LOCK_TIMEOUT}
        if not durable:
            self._settings["synchronous_commit"] = "off"
        self._turn = asyncio.Lock()
        self._connection: asyncpg.Connection[Any] | None = None
        self._opened_at = 0.0

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement as a transaction of its own.

        Raises Unavailable within 4 s when Postgres is away; whether the statement took effect is
        then unknown. Raises asyncpg.PostgresError for an answer of Postgres, a lock timeout among them: then
        nothing has changed.
        """
        try:
            async with self._turn, asyncio.timeout(PATIENCE_SECONDS):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await open_connection(self._url, "farebox_meter", **self._settings)
                    self._opened_at = time.monotonic()
                rows: list[asyncpg.Record] = await self._connection.fetch(statement, *arguments)
                return rows
        except asyncio.CancelledError:
            self._abandon()
            raise
        except Exception as error:
            if isinstance(error, asyncpg.PostgresError) and not is_away(error):
                raise
            # No answer of Postgres: what became of the statement, and of the connection, nobody knows.
            self._abandon()
            raise Unavailable("Metering is not reachable; please try again.") from error

    @property
    def age(self) -> float:
        """For how many seconds this connection has stood without a break; 0 while there is none."""
        return 0.0 if self._connection is None else time.monotonic() - self._opened_at

    async def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close(timeout=1)

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
