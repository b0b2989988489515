"""What of a stream its client was handed, in tokens: what is billed if it ends before its time."""

from collections.abc import Callable

from farebox.gateway.completions.tally import Tally

Record = Callable[[int, int, int], None]


class Delivery:
    """Follows tokens from the writer, which may hold text back, to the socket, which may not take it yet.

    The promise: what waits in this process's memory for a slow reader is not billed if the process is
    killed, nor if the client leaves. A write begins when all before it have left (`Wire.start_stream`), so
    only the last one can be in doubt.

    `tokens` counts those whose bytes went to the socket. `record` is told running totals of input, cached
    input and output tokens, disjoint: the checkpoints that are billed for a process that was killed.
    """

    __slots__ = ("_before_last", "_held", "_record", "_tally", "_totals", "tokens")

    def __init__(self, tally: Tally, choices: int, record: Record) -> None:
        self._tally = tally
        self._record = record
        self._held = [0] * choices
        self._before_last = 0
        self._totals: tuple[int, int, int] | None = None
        self.tokens = 0

    def hold(self, index: int, tokens: int) -> None:
        """Choice `index` went on by so many tokens, whose text the next write for it will hold."""
        self._held[index] += tokens

    def written(self, index: int, *, flushed: bool) -> None:
        """What choice `index` held went to the socket; `flushed`: it has left this process's memory."""
        self._before_last = self.tokens
        self.tokens += self._held[index]
        self._held[index] = 0
        tally = self._tally
        before, self._totals = self._totals, (tally.input_tokens, tally.cached_tokens, self.tokens)
        known = self._totals if flushed else before
        if known is not None:
            self._record(*known)

    def lost(self) -> None:
        """The client left before the last write had left this memory whole. Twice changes nothing."""
        self.tokens = self._before_last

    def end(self) -> None:
        """Record what the client has got in the end, if anything was written."""
        if self._totals is not None:
            self._record(self._tally.input_tokens, self._tally.cached_tokens, self.tokens)
