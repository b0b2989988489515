"""Who is encoded next, and which blocks hold whose keys and values."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Seq

from farebox_engine.blocks import BlockPool
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.sequence import Sequence
from farebox_engine.step_limit import StepLimit


class Seq2SeqScheduler:
    """First come, first served: the oldest request is admitted as soon as its worst case fits.

    The blocks that a request may come to need are reserved when it is admitted, so that
    none ever has to be put back. Hypotheses of one beam share the blocks of what they have
    in common; one that is written to while shared is copied first.
    """

    def __init__(
        self,
        pool: BlockPool,
        plan: Callable[[Sequence], Decoding],
        *,
        block_size: int,
        token_budget: int,
        max_hypotheses: int,
    ) -> None:
        """`plan` makes a request ready to be decoded; `token_budget` bounds a step's source tokens."""
        self._pool = pool
        self._plan = plan
        self._block_size = block_size
        self.limit = StepLimit(token_budget)
        self._max_hypotheses = max_hypotheses
        # Dicts, for their order and for removal from the middle.
        self._waiting: dict[Sequence, Decoding] = {}
        self._running: dict[Sequence, Decoding] = {}

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._waiting or sequence in self._running

    def add(self, sequence: Sequence) -> None:
        self._waiting[sequence] = self._plan(sequence)

    def decodings(self) -> list[Decoding]:
        """All that run."""
        return list(self._running.values())

    def admit(self) -> list[Decoding]:
        """Start the requests there is room for; the blocks of their sources are allocated."""
        admitted: list[Decoding] = []
        hypotheses = sum(len(each.rows) for each in self._running.values())
        blocks = sum(each.reserved for each in self._running.values())
        tokens, budget = 0, self.limit.next()
        for decoding in self._waiting.values():
            tokens += decoding.source_length
            hypotheses += len(decoding.rows)
            blocks += decoding.reserved
            # A source longer than the budget is encoded alone: it cannot be cut.
            if admitted and tokens > budget:
                break
            if hypotheses > self._max_hypotheses or blocks > self._pool.num_blocks:
                break
            admitted.append(decoding)
        for decoding in admitted:
            del self._waiting[decoding.sequence]
            self._running[decoding.sequence] = decoding
            decoding.source_blocks = self._pool.allocate(-(-decoding.source_length // self._block_size))
        return admitted

    def make_room(self, decodings: Seq[Decoding]) -> None:
        """See to it that every hypothesis' next position has a block of its own."""
        for decoding in decodings:
            index = decoding.computed // self._block_size
            for row in decoding.rows:
                last = row.blocks[-1] if row.blocks else None
                if index == len(row.blocks):
                    row.blocks += self._pool.allocate(1, after=last)
                elif self._pool.holders(row.blocks[index]) > 1:
                    shared = row.blocks[index]
                    (row.blocks[index],) = self._pool.allocate(1)
                    self._pool.release([shared])
                    decoding.copies.append((shared, row.blocks[index]))

    def commit(self, decoding: Decoding) -> None:
        """Record that a step has computed one position of every hypothesis."""
        decoding.computed += 1
        decoding.furthest = max(decoding.furthest, decoding.computed)
        decoding.copies.clear()

    def replace_rows(self, decoding: Decoding, rows: list[Hypothesis]) -> None:
        """Go on with `rows`, whose blocks are those of present ones."""
        for row in rows:
            self._pool.hold(row.blocks)
        for row in decoding.rows:
            self._pool.release(row.blocks)
        decoding.rows = rows

    def remove(self, sequence: Sequence) -> Decoding | None:
        """Forget a request and free its blocks; returns it if it was there."""
        decoding = self._running.pop(sequence, None)
        if decoding is None:
            return self._waiting.pop(sequence, None)
        self._release(decoding)
        return decoding

    def requeue(self) -> None:
        """Send the running requests back to the head of the queue, to be computed again from their tokens."""
        for decoding in self._running.values():
            self._release(decoding)
        self._waiting = self._running | self._waiting
        self._running = {}

    def use(self, pool: BlockPool) -> None:
        """Go on with other blocks; none of the old ones may be in use."""
        self._pool = pool

    def sequences(self) -> list[Sequence]:
        """All that run, then all that wait."""
        return [*self._running, *self._waiting]

    def _release(self, decoding: Decoding) -> None:
        for row in decoding.rows:
            self._pool.release(row.blocks)
            row.blocks = []
        self._pool.release(decoding.source_blocks)
        decoding.source_blocks = []
        decoding.copies.clear()
        decoding.computed = 0
