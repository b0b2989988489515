"""A share for each tenant of what all of them use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID
from weakref import WeakValueDictionary

from farebox.core.errors import Unavailable

PATIENCE_SECONDS = 2.0


class Shares:
    """At most `size` at a time for each organization; who is no organization's is not counted."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._turns: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, organization_id: UUID | None) -> AsyncIterator[None]:
        """One of the organization's places. Raises Unavailable when none comes free in time."""
        if organization_id is None:
            yield
            return
        turn = self._turns.setdefault(organization_id, asyncio.Semaphore(self._size))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await turn.acquire()
        except TimeoutError:
            raise Unavailable(
                "Too many requests of your organization are under way; please try again."
            ) from None
        try:
            yield
        finally:
            turn.release()
