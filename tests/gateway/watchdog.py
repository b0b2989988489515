"""Catches whatever holds up the server's event loop."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.gateway.servers import RunningServer

TICK_SECONDS = 0.005
LIMIT_SECONDS = 0.1


@asynccontextmanager
async def unstalled(server: RunningServer) -> AsyncIterator[None]:
    """Fail if, meanwhile, the loop's thread computed for 100 ms between two ticks of a timer.

    Processor time of that one thread, so that a busy machine does not count as a stall. Nor does a look of
    the collector through all that the tests have imported and made, which no server has.
    """
    gc.freeze()
    worst = 0.0
    stop = asyncio.Event()

    async def tick() -> None:
        nonlocal worst
        while not stop.is_set():
            before = time.thread_time()
            await asyncio.sleep(TICK_SECONDS)
            worst = max(worst, time.thread_time() - before)

    ticking = asyncio.run_coroutine_threadsafe(tick(), server.loop)
    try:
        yield
    finally:
        server.loop.call_soon_threadsafe(stop.set)
        await asyncio.wrap_future(ticking)
        gc.unfreeze()
    assert worst < LIMIT_SECONDS, f"the event loop was held up for {worst * 1000:.0f} ms"
