"""Group commit: what arrives while a statement runs shares the next one. No timer, no delay at low load."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from farebox.core.errors import Unavailable
from farebox.metering.halving import by_halves

Item = TypeVar("Item")
Result = TypeVar("Result")

Waiting = tuple[Item, asyncio.Future[Result]]
Flush = Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]


class GroupCommit(Generic[Item, Result]):
    """Runs `flush` over everything queued, one call at a time, and hands each caller its result.

    `flush` gets at most `max_batch` items and answers in their order. If it raises Unavailable, all
    who wait fail at once: those behind must not wait for a time-out of their own. Any other error
    is narrowed down by halves until it reaches only the item that caused it, which takes it for
    granted that a flush that failed has changed nothing.
    """

    def __init__(
        self,
        flush: Flush[Item, Result],
        *,
        max_batch: int = 256,
        orphaned: Callable[[Result], None] = lambda _: None,
    ) -> None:
        """`orphaned` gets the results of those who were cancelled while they waited, see `ask`."""
        self._flush = flush
        self._max_batch = max_batch
        self._orphaned = orphaned
        self._queue: deque[Waiting[Item, Result]] = deque()
        self._runner: asyncio.Task[None] | None = None

    def submit(self, item: Item) -> "asyncio.Future[Result]":
        """Queue an item; the future resolves when its batch is committed, or raises what befell it."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        return future

    async def ask(self, item: Item) -> Result:
        """What came of an item, as `submit` has it.

        A caller that is cancelled meanwhile takes nothing out of the queue: the result goes to `orphaned`.
        """
        future = self.submit(item)
        try:
            return await future
        except asyncio.CancelledError:
            # Cancelled just after the result came, before anybody could take it.
            if future.done() and not future.cancelled() and future.exception() is None:
                self._orphaned(future.result())
            raise

    async def drain(self) -> None:
        """Return when nothing is queued and nothing runs."""
        while self._runner is not None:
            await asyncio.shield(self._runner)

    async def _run(self) -> None:
        # Between the last look at the queue and `_runner = None` nothing is awaited, so no
        # submission can fall in between and find neither a runner nor a reader.
        try:
            while self._queue:
                count = min(len(self._queue), self._max_batch)
                await self._serve([self._queue.popleft() for _ in range(count)])
        finally:
            self._runner = None

    async def _serve(self, batch: Sequence[Waiting[Item, Result]]) -> None:
        try:
            await by_halves(batch, self._attempt, narrow=Exception, done=self._answer, refused=_fail)
        except Unavailable as error:
            for waiting in (*batch, *self._queue):
                _fail(waiting, error)
            self._queue.clear()
        except BaseException as error:
            for waiting in batch:
                _fail(waiting, error)
            raise

    async def _attempt(self, batch: Sequence[Waiting[Item, Result]]) -> Sequence[Result]:
        return await self._flush([item for item, _ in batch])

    def _answer(self, batch: Sequence[Waiting[Item, Result]], results: Sequence[Result]) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            if future.cancelled():
                self._orphaned(result)
            elif not future.done():
                future.set_result(result)


def _fail(waiting: Waiting[Item, Result], error: BaseException) -> None:
    _, future = waiting
    if not future.done():
        future.set_exception(error)
