"""All requests under way in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from farebox.gateway.run import Run

DRAIN_SECONDS = 20.0
CANCEL_SECONDS = 5.0


class Runs:
    """Knows who runs, and lets them finish at the end."""

    def __init__(self) -> None:
        self._runs: dict[asyncio.Task[Any] | None, Run] = {}
        self.draining = False

    def __len__(self) -> int:
        return len(self._runs)

    async def execute(self, run: Run) -> None:
        """Execute a run in this task, which the server does not cancel when the client leaves."""
        task = asyncio.current_task()
        self._runs[task] = run
        try:
            await run.execute()
        finally:
            del self._runs[task]

    @asynccontextmanager
    async def drained_at_exit(self, drain_seconds: float = DRAIN_SECONDS) -> AsyncIterator["Runs"]:
        """When the context ends, no new run starts and those under way get time to finish."""
        try:
            yield self
        finally:
            self.draining = True
            await self._wait(drain_seconds)
            for run in self._runs.values():
                run.leave()
            await self._wait(CANCEL_SECONDS)

    async def _wait(self, seconds: float) -> None:
        tasks = [task for task in self._runs if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
