"""One connection to Postgres that comes back by itself."""

import asyncio
from typing import Any

import asyncpg

from farebox.core.database import COMMAND_TIMEOUT_SECONDS, is_away, open_connection
from farebox.core.errors import Unavailable

PATIENCE_SECONDS = COMMAND_TIMEOUT_SECONDS + 1.0


class MeterConnection:
    """A `farebox_meter` connection, opened at first use and again after a loss.

    One statement at a time; the caller sees to that (group commit does).
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._connection: asyncpg.Connection[Any] | None = None

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement as a transaction of its own.

        Raises Unavailable within 4 s when Postgres is away; whether the statement took effect is
        then unknown.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await open_connection(self._url, "farebox_meter")
                rows: list[asyncpg.Record] = await self._connection.fetch(statement, *arguments)
                return rows
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            if not is_away(error):
                raise
            self._abandon()
            raise Unavailable("Metering is not reachable; please try again.") from error
        except asyncio.CancelledError:
            self._abandon()
            raise

    async def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            await self._connection.close(timeout=1)

    def _abandon(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
