"""Threads that tenants share: for work of theirs that would hold up the event loop."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

R = TypeVar("R")


class FairThreads:
    """Runs one piece of work of each tenant at a time. Of those who wait, the one goes first who has had
    the least time lately.

    Start-time fair queueing (Goyal, Vin, Cheng 1996) by measured seconds: who was away gains nothing by
    it, and who floods the queue waits behind whoever does not.
    """

    def __init__(self, name: str, threads: int = 2) -> None:
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._idle = threads
        self._waiting: dict[UUID, deque[tuple[asyncio.Future[Any], Callable[[], Any]]]] = {}
        self._busy: set[UUID] = set()
        # In virtual time: when a tenant's next piece starts, and when the last one that was begun did.
        self._starts: dict[UUID, float] = {}
        self._now = 0.0

    async def run(self, tenant: UUID, work: Callable[[], R]) -> R:
        """The result of `work`, called in a thread. A caller that is cancelled while it waits is skipped."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append((future, work))
        self._begin()
        return await future

    def _begin(self) -> None:
        while self._idle and (ready := [tenant for tenant in self._waiting if tenant not in self._busy]):
            tenant = min(ready, key=self._start_of)
            future, work = self._waiting[tenant].popleft()
            if not self._waiting[tenant]:
                del self._waiting[tenant]
            if not future.done():
                self._start(tenant, future, work)

    def _start_of(self, tenant: UUID) -> float:
        return max(self._now, self._starts.get(tenant, 0.0))

    def _start(self, tenant: UUID, future: asyncio.Future[Any], work: Callable[[], Any]) -> None:
        self._now = self._start_of(tenant)
        self._idle -= 1
        self._busy.add(tenant)
        running = asyncio.get_running_loop().run_in_executor(self._executor, _timed, work)
        running.add_done_callback(lambda done: self._end(tenant, future, done))

    def _end(self, tenant: UUID, future: asyncio.Future[Any], done: "asyncio.Future[_Outcome]") -> None:
        self._idle += 1
        self._busy.discard(tenant)
        if done.cancelled():
            future.cancel()
            return
        result, error, seconds = done.result()
        self._starts[tenant] = self._start_of(tenant) + seconds
        if not (self._waiting or self._busy):
            self._starts.clear()
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        self._begin()


_Outcome = tuple[Any, BaseException | None, float]


def _timed(work: Callable[[], Any]) -> _Outcome:
    begun = time.perf_counter()
    try:
        result, error = work(), None
    except BaseException as caught:
        result, error = None, caught
    return result, error, time.perf_counter() - begun
