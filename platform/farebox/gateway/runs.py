"""All requests under way in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from farebox.gateway.run import Run

DRAIN_SECONDS = 20.0
CANCEL_SECONDS = 5.0


class Runs:
    """Starts runs, and lets them finish at the end."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], Run] = {}
        self.draining = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, run: Run) -> asyncio.Task[None]:
        """Execute a run in a task of its own, which ends when its request is settled."""
        task = asyncio.create_task(run.execute())
        self._tasks[task] = run
        task.add_done_callback(self._tasks.pop)
        return task

    @asynccontextmanager
    async def drained_at_exit(self, drain_seconds: float = DRAIN_SECONDS) -> AsyncIterator["Runs"]:
        """When the context ends, no new run starts and those under way get time to finish."""
        try:
            yield self
        finally:
            # The server that drained before the lifespan's end has given them their time.
            await self.drain(0.0 if self.draining else drain_seconds)

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """From now on no new run starts. Those under way get `seconds` to finish, then are cancelled."""
        self.draining = True
        await self._wait(seconds)
        for run in self._tasks.values():
            run.leave()
        await self._wait(CANCEL_SECONDS)
        # One that waits for a client who does not read has not heard: it is settled on its way out.
        for task in self._tasks:
            task.cancel()
        await self._wait(CANCEL_SECONDS)

    async def _wait(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
