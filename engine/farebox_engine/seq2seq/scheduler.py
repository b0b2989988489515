"""Who is encoded next, and which blocks hold whose keys and values."""

from __future__ import annotations

from collections.abc import Callable

from farebox_engine.scheduling.blocks import BlockPool
from farebox_engine.scheduling.fair_queue import FairQueue
from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.scheduling.step_limit import StepLimit
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis


class Seq2SeqScheduler:
    """Admits the request that is next by `FairQueue` as soon as its worst case fits; none overtakes it.

    The blocks that a request may come to need are reserved when it is admitted, so that
    none ever has to be put back. Hypotheses of one beam share the blocks of what they have
    in common; one that is written to while shared is copied first.

    A tenant is charged for a source when it is admitted, and in each step for one output token
    of every hypothesis computed: to search with four beams takes what four answers take. What
    is computed again after the cache was lost is not charged.
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
        # All there are, by arrival; and of those, the running ones by admission.
        self._decodings: dict[Sequence, Decoding] = {}
        self._running: dict[Sequence, Decoding] = {}
        self._waiting = FairQueue()

    @property
    def idle(self) -> bool:
        return not self._decodings

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._decodings

    def add(self, sequence: Sequence) -> None:
        self._decodings[sequence] = self._plan(sequence)
        self._waiting.push(sequence)

    def decodings(self) -> list[Decoding]:
        """All that run."""
        return list(self._running.values())

    def admit(self) -> list[Decoding]:
        """Start the requests there is room for; the blocks of their sources are allocated."""
        admitted: list[Decoding] = []
        hypotheses = sum(len(each.rows) for each in self._running.values())
        blocks = sum(each.reserved for each in self._running.values())
        tokens, budget = 0, self.limit.next()
        while (sequence := self._waiting.peek()) is not None:
            decoding = self._decodings[sequence]
            tokens += decoding.source_length
            hypotheses += len(decoding.rows)
            blocks += decoding.reserved
            # A source longer than the budget is encoded alone: it cannot be cut.
            if admitted and tokens > budget:
                break
            if hypotheses > self._max_hypotheses or blocks > self._pool.num_blocks:
                break
            self._waiting.admit(sequence)
            self._running[sequence] = decoding
            decoding.source_blocks = self._pool.allocate(-(-decoding.source_length // self._block_size))
            admitted.append(decoding)
        return admitted

    def schedule(self) -> list[Decoding]:
        """All that run; every hypothesis' next position has a block of its own."""
        decodings = self.decodings()
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
        return decodings

    def commit(self, decoding: Decoding) -> None:
        """Record that a step has computed one position of every hypothesis; charge for it if it is new."""
        decoding.computed += 1
        if decoding.computed > decoding.furthest:
            decoding.furthest = decoding.computed
            self._waiting.charge_output(decoding.sequence, len(decoding.rows))
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
        decoding = self._decodings.pop(sequence, None)
        if decoding is None:
            return None
        if self._running.pop(sequence, None) is None:
            self._waiting.remove(sequence)
        else:
            self._waiting.leave(sequence)
            self._release(decoding)
        return decoding

    def requeue(self) -> None:
        """Send the running requests back, before their tenants' others, to be computed from their tokens."""
        for sequence, decoding in reversed(self._running.items()):
            self._release(decoding)
            self._waiting.push_preempted(sequence)
        self._running.clear()

    def use(self, pool: BlockPool) -> None:
        """Go on with other blocks; none of the old ones may be in use."""
        self._pool = pool

    def sequences(self) -> list[Sequence]:
        """All that run or wait."""
        return list(self._decodings)

    def _release(self, decoding: Decoding) -> None:
        for row in decoding.rows:
            self._pool.release(row.blocks)
            row.blocks = []
        self._pool.release(decoding.source_blocks)
        decoding.source_blocks = []
        decoding.copies.clear()
        decoding.computed = 0
