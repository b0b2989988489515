"""All requests under way in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from farebox.gateway.run import Run

DRAIN_SECONDS = 20.0
CANCEL_SECONDS = 5.0


class Runs:
    """Starts runs, cuts those whose client has stopped reading, and lets the rest finish at the end."""

    def __init__(self, stalled_reader_seconds: float) -> None:
        self._patience = stalled_reader_seconds
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
    async def watched(self, drain_seconds: float = DRAIN_SECONDS) -> AsyncIterator["Runs"]:
        """Look after the runs while the context is open; at its end they get time to finish."""
        watch = asyncio.create_task(self._watch(), name="stalled-readers")
        try:
            yield self
        finally:
            self.draining = True
            await self._wait(drain_seconds)
            for run in self._tasks.values():
                run.leave()
            await self._wait(CANCEL_SECONDS)
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _wait(self, seconds: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def _watch(self) -> None:
        # One look at all streams now and then costs less than a timer for every chunk.
        while True:
            await asyncio.sleep(min(1.0, self._patience / 4))
            for run in list(self._tasks.values()):
                if run.blocked_seconds > self._patience:
                    run.cut()
