"""Threads that tenants share: for work of theirs that would hold up the event loop."""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

R = TypeVar("R")

# Of so many tenants it is known for long what they had lately: of those who had most.
KEPT = 1_024


def _no_objection() -> None:
    """Nothing speaks against it."""


def _uncounted(_: float) -> None:
    """Nobody counts the seconds."""


class FairThreads:
    """Runs one piece of work of each tenant at a time. Of those who wait, the one goes first who has had
    the least time lately.

    Start-time fair queueing (Goyal, Vin, Cheng 1996) by measured seconds: who was away gains nothing by
    it, and who floods the queue waits behind whoever does not.
    """

    def __init__(
        self,
        name: str,
        threads: int = 2,
        *,
        rest: float = 0.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock` tells the seconds that work takes.

        After a piece, its tenant rests `rest` times as long before its next one begins, also where nobody
        else waits: all threads share the interpreter with the event loop and the models' threads. So a tenant
        has one part in `1 + rest` of it.
        """
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
        self._clock = clock
        self._rest = rest
        self._idle = threads
        self._waiting: dict[Hashable, deque[_Piece]] = {}
        # Who has a thread, or rests.
        self._busy: set[Hashable] = set()
        # In virtual time: when a tenant's next piece starts, and when the last one that was begun did.
        self._starts: dict[Hashable, float] = {}
        self._now = 0.0

    @property
    def remembered(self) -> int:
        """Of how many tenants it is known what they had lately: at most twice KEPT."""
        return len(self._starts)

    async def run(
        self,
        tenant: Hashable,
        work: Callable[[], R],
        *,
        check: Callable[[], None] = _no_objection,
        spent: Callable[[float], None] = _uncounted,
    ) -> R:
        """The result of `work`, called in a thread. A caller that is cancelled while it waits is skipped.

        `check` is called when its turn has come: what that raises is raised here, and takes no thread.
        `spent` is told the seconds that the work took, before anybody is told its result. Both are called on
        the event loop.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(_Piece(future, work, check, spent))
        self._begin()
        return await future

    def close(self) -> None:
        """Cancel what has not begun; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        while self._idle and (ready := [tenant for tenant in self._waiting if tenant not in self._busy]):
            tenant = min(ready, key=self._start_of)
            piece = self._waiting[tenant].popleft()
            if not self._waiting[tenant]:
                del self._waiting[tenant]
            if piece.may_begin():
                self._start(tenant, piece)

    def _start_of(self, tenant: Hashable) -> float:
        return max(self._now, self._starts.get(tenant, 0.0))

    def _start(self, tenant: Hashable, piece: "_Piece") -> None:
        self._now = self._start_of(tenant)
        self._idle -= 1
        self._busy.add(tenant)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._executor, _timed, piece.work, self._clock)
        running.add_done_callback(lambda done: self._end(tenant, piece, done))

    def _end(self, tenant: Hashable, piece: "_Piece", done: "asyncio.Future[_Outcome]") -> None:
        self._idle += 1
        if done.cancelled():
            self._busy.discard(tenant)
            piece.future.cancel()
            return
        result, error, seconds = done.result()
        if self._rest:
            asyncio.get_running_loop().call_later(self._rest * seconds, self._rested, tenant)
        else:
            self._busy.discard(tenant)
        self._starts[tenant] = self._start_of(tenant) + seconds
        self._forget()
        piece.spent(seconds)
        if not piece.future.done():
            if error is None:
                piece.future.set_result(result)
            else:
                piece.future.set_exception(error)
        self._begin()

    def _rested(self, tenant: Hashable) -> None:
        self._busy.discard(tenant)
        self._begin()

    def _forget(self) -> None:
        if not (self._waiting or self._busy):
            self._starts.clear()
        elif len(self._starts) > 2 * KEPT:
            self._starts = dict(heapq.nlargest(KEPT, self._starts.items(), key=itemgetter(1)))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Work that waits, and who waits for it."""

    future: asyncio.Future[Any]
    work: Callable[[], Any]
    check: Callable[[], None]
    spent: Callable[[float], None]

    def may_begin(self) -> bool:
        """Whether anybody still waits for it, and nothing speaks against it; they are told what does."""
        if self.future.done():
            return False
        try:
            self.check()
        except Exception as objection:
            self.future.set_exception(objection)
            return False
        return True


_Outcome = tuple[Any, BaseException | None, float]


def _timed(work: Callable[[], Any], clock: Callable[[], float]) -> _Outcome:
    begun = clock()
    try:
        result, error = work(), None
    except BaseException as caught:
        result, error = None, caught
    return result, error, clock() - begun
