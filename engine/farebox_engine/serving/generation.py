"""The event loop's end of a generation."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from farebox_engine.outputs import Chunk, FinishReason
from farebox_engine.scheduling.sequence import Sequence, SequenceOutput
from farebox_engine.serving.supervisor import Supervisor

# A reader may hand a chunk on to a client that leaves before all of it has got there. What it is worth is
# then in doubt, and so it has a bound.
CHUNK_TOKENS = 64


class Generation:
    """An asynchronous iterator of `Chunk`; all methods belong to the event loop's thread.

    What arrived since the last read comes as one chunk, so that a slow reader costs no wake-up
    per step; but for a step that yields more, a chunk has at most CHUNK_TOKENS. The last one carries
    `finish_reason` and `usage`; there is always one.
    """

    def __init__(
        self, sequence: Sequence, cancel: Callable[[], None], serve: Callable[[Sequence], None]
    ) -> None:
        self.request_id = sequence.request.request_id
        self._sequence = sequence
        self._cancel = cancel
        self._serve = serve
        self._with_logprobs = sequence.request.params.logprobs is not None
        self._unread: deque[Chunk] = deque()
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
        chunks = self._next()
        self._read_end = chunks[-1].finish_reason is not None
        return self._merge(chunks)

    def mark_served(self) -> None:
        """Note that what was computed was of use to its reader: from now on it counts as cached for others.

        Also after the end. See `GenerationRequest.tells_when_served`.
        """
        self._serve(self._sequence)

    def cancel(self) -> None:
        """Stop generating at the next step; the last chunk still comes. No effect after the end."""
        if not self._ended:
            self._cancel()

    def tap(self, take: Callable[[Chunk], bool]) -> None:
        """While the reader waits, offer each chunk but the last to `take` first, without waking anybody.

        What `take` declines by False, the reader gets. It must not raise: its caller serves others too.
        """
        self._tap = take

    def push(self, chunk: Chunk) -> None:
        """Take what a step yielded; called by the engine only."""
        self._ended = chunk.finish_reason is not None
        if self._ended:
            self._tap = None  # What it belongs to may hold this generation.
        reader = self._reader
        if reader is None or reader.done():
            self._unread.append(chunk)
        elif self._tap is None or not self._tap(self._merge([chunk])):
            self._unread.append(chunk)
            reader.set_result(None)

    def _next(self) -> list[Chunk]:
        """The oldest unread chunks that fit into one; there must be some."""
        unread = self._unread
        chunks = [unread.popleft()]
        tokens = len(chunks[0].token_ids)
        while unread and (tokens := tokens + len(unread[0].token_ids)) <= CHUNK_TOKENS:
            chunks.append(unread.popleft())
        return chunks

    def _merge(self, chunks: list[Chunk]) -> Chunk:
        """What the steps yielded as one chunk for the reader, with what all of its chunks have."""
        text, token_ids, logprobs, finish_reason, usage, error, _, prompt = chunks[-1]
        if len(chunks) > 1:
            text = "".join([chunk.text for chunk in chunks])
            token_ids = tuple([token for chunk in chunks for token in chunk.token_ids])
            prompt = next((chunk.prompt for chunk in chunks if chunk.prompt is not None), None)
            if self._with_logprobs:
                logprobs = tuple([entry for chunk in chunks for entry in chunk.logprobs or ()])
        return Chunk(
            text,
            token_ids,
            logprobs if self._with_logprobs else None,
            finish_reason,
            usage,
            error,
            self._sequence.cached_tokens,
            prompt,
        )


class Generations:
    """Those of one engine that are under way; all methods belong to the event loop's thread."""

    def __init__(self, serve: Callable[[Sequence], None]) -> None:
        self._serve = serve
        self._open: dict[Sequence, Generation] = {}

    def begin(self, sequence: Sequence, supervisor: Supervisor[Sequence, SequenceOutput]) -> Generation:
        """Hand `sequence` over to be computed.

        Raises:
            ClosedError: nobody will compute it.
        """
        generation = Generation(sequence, lambda: supervisor.cancel(sequence), self._serve)
        supervisor.submit(sequence)
        # Deliveries run on this very loop, so that none can come before this line.
        self._open[sequence] = generation
        return generation

    def deliver(self, outputs: list[SequenceOutput]) -> None:
        """Pass on what a step yielded."""
        for sequence, chunk in outputs:
            generation = self._open.get(sequence)
            if generation is None:
                continue
            generation.push(chunk)
            if chunk.finish_reason is not None:
                del self._open[sequence]

    def end_all(self, error: str) -> None:
        """Whatever ends the computing, nobody waits for it for ever."""
        now = time.perf_counter()
        self.deliver(
            [
                SequenceOutput(
                    sequence,
                    Chunk("", (), (), FinishReason.ERROR, sequence.usage(now), error),
                )
                for sequence in self._open
            ]
        )
