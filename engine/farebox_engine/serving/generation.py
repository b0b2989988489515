"""The event loop's end of a generation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from farebox_engine.outputs import Chunk, FinishReason
from farebox_engine.params import GenerationRequest
from farebox_engine.scheduling.sequence import Sequence, Update
from farebox_engine.serving.supervisor import Supervisor
from farebox_engine.tokenization.transcript import EMPTY_DELTA


class Generation:
    """An asynchronous iterator of `Chunk`; all methods belong to the event loop's thread.

    Whatever arrived since the last read comes as one chunk, so that a slow reader costs
    neither memory per token nor a wake-up per step. The last chunk carries `finish_reason`
    and `usage`; there is always one.
    """

    def __init__(self, request_id: str, cancel: Callable[[], None], *, with_logprobs: bool) -> None:
        self.request_id = request_id
        self._cancel = cancel
        self._with_logprobs = with_logprobs
        self._unread: list[Update] = []
        self._reader: asyncio.Future[None] | None = None
        self._tap: Callable[[Chunk], bool] | None = None
        self._ended = False
        self._read_end = False

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Chunk:
        if self._read_end:
            raise StopAsyncIteration
        while not self._unread:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        updates, self._unread = self._unread, []
        self._read_end = updates[-1].finish_reason is not None
        return self._merge(updates)

    def cancel(self) -> None:
        """Stop generating at the next step; the last chunk still comes. No effect after the end."""
        if not self._ended:
            self._cancel()

    def tap(self, take: Callable[[Chunk], bool]) -> None:
        """While the reader waits, offer each chunk but the last to `take` first, without waking anybody.

        What `take` declines by False, the reader gets. It must not raise: its caller serves others too.
        """
        self._tap = take

    def push(self, update: Update) -> None:
        """Take what the engine delivers; called by the engine only."""
        self._ended = update.finish_reason is not None
        if self._ended:
            self._tap = None  # What it belongs to may hold this generation.
        reader = self._reader
        if reader is None or reader.done():
            self._unread.append(update)
        elif self._tap is None or not self._tap(self._merge([update])):
            self._unread.append(update)
            reader.set_result(None)

    def _merge(self, updates: list[Update]) -> Chunk:
        last = updates[-1]
        if len(updates) == 1:
            text, token_ids, logprobs = last.delta
            return Chunk(
                text,
                token_ids,
                logprobs if self._with_logprobs else None,
                last.finish_reason,
                last.usage,
                last.error,
                last.sequence.cached_tokens,
                last.prompt,
            )
        deltas = [update.delta for update in updates]
        return Chunk(
            text="".join(delta.text for delta in deltas),
            token_ids=tuple(token for delta in deltas for token in delta.token_ids),
            logprobs=(
                tuple(entry for delta in deltas for entry in delta.logprobs) if self._with_logprobs else None
            ),
            finish_reason=last.finish_reason,
            usage=last.usage,
            error=last.error,
            cached_tokens=last.sequence.cached_tokens,
            prompt=next((update.prompt for update in updates if update.prompt is not None), None),
        )


class Generations:
    """Those of one engine that are under way; all methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._open: dict[Sequence, Generation] = {}

    def begin(
        self, request: GenerationRequest, sequence: Sequence, supervisor: Supervisor[Sequence, Update]
    ) -> Generation:
        """Hand `sequence`, made for `request`, over to be computed.

        Raises:
            ClosedError: nobody will take it up.
        """
        generation = Generation(
            request.request_id,
            lambda: supervisor.cancel(sequence),
            with_logprobs=request.params.logprobs is not None,
        )
        supervisor.submit(sequence)
        # Deliveries run on this very loop, so that none can come before this line.
        self._open[sequence] = generation
        return generation

    def deliver(self, updates: list[Update]) -> None:
        """Pass on what a step brought."""
        for update in updates:
            generation = self._open.get(update.sequence)
            if generation is None:
                continue
            generation.push(update)
            if update.finish_reason is not None:
                del self._open[update.sequence]

    def end_all(self, error: str) -> None:
        """Whatever ends the computing, nobody waits for it for ever."""
        now = time.perf_counter()
        self.deliver(
            [
                Update(sequence, EMPTY_DELTA, FinishReason.ERROR, sequence.usage(now), error)
                for sequence in self._open
            ]
        )
