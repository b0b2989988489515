"""All requests under way in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

DRAIN_SECONDS = 20.0
# As long as a settlement may take with Postgres hanging: its patience, then the spool.
CANCEL_SECONDS = 10.0


class Run(Protocol):
    """An admitted request under way."""

    async def execute(self) -> None:
        """See it through to its settlement and answer; a task that is cancelled settles first."""
        ...

    def stop(self) -> None:
        """This process ends: stop at the next step. The client, who is still there, is told."""
        ...


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
            # The server that drained before the lifespan's end has given them their time.
            await self.drain(0.0 if self.draining else drain_seconds)

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """From now on no new run starts. Those under way get `seconds` to finish, then are cancelled."""
        self.draining = True
        await self._wait(seconds)
        for run in self._runs.values():
            run.stop()
        await self._wait(CANCEL_SECONDS)
        # One that waits for a client who does not read has not heard: it is settled on its way out.
        for task in self._tasks:
            task.cancel()
        await self._wait(CANCEL_SECONDS)

    async def _wait(self, seconds: float) -> None:
        if tasks := self._tasks:
            await asyncio.wait(tasks, timeout=seconds)

    @property
    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task in self._runs if task is not None]
