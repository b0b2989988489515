"""Which tokens each step computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from farebox_engine.blocks import BlockPool, block_key, root_key
from farebox_engine.sequence import Sequence, Span


class ArrivalQueue:
    """Waiting sequences, first come first served; a preempted one goes back to the front.

    The scheduler asks a queue only whom to take next, so that another order is another
    class with these methods.
    """

    def __init__(self) -> None:
        self._sequences: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self._sequences

    def push(self, sequence: Sequence) -> None:
        self._sequences.append(sequence)

    def push_preempted(self, sequence: Sequence) -> None:
        self._sequences.appendleft(sequence)

    def peek(self) -> Sequence:
        """The sequence to take up next."""
        return self._sequences[0]

    def pop(self) -> Sequence:
        return self._sequences.popleft()

    def remove(self, sequence: Sequence) -> None:
        self._sequences.remove(sequence)


class Scheduler:
    """Continuous batching with chunked prefill.

    Each step computes at most `token_budget` tokens: first one of every decoding
    sequence, then prompt tokens, a long prompt over several steps, so that decoding never
    waits for it. A sequence takes KV blocks as it grows. When none are free, the last
    arrival gives up its own and is computed again later.

    The running sequences are kept in the order of their admission, and admission stops at
    the first prompt that does not fit into the budget: only the last can be in mid-prefill.
    """

    def __init__(self, pool: BlockPool, *, block_size: int, token_budget: int, max_running: int) -> None:
        self.preemptions = 0
        self.running: list[Sequence] = []
        self.waiting = ArrivalQueue()
        self._pool = pool
        self._block_size = block_size
        self._token_budget = token_budget
        self._max_running = max_running

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self.running or sequence in self.waiting

    def add(self, sequence: Sequence) -> None:
        self.waiting.push(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or cancelled sequence out and release its blocks."""
        if sequence in self.running:
            self.running.remove(sequence)
        else:
            self.waiting.remove(sequence)
        self._release(sequence)

    def schedule(self) -> list[Span]:
        """The next step's spans, decoding ones first; their blocks are allocated."""
        preemptions = self.preemptions
        spans = self._continue_running(self._token_budget)
        # Blocks freed by a preemption go to those who were short of them, not to newcomers.
        if self.preemptions == preemptions:
            budget = self._token_budget - sum(span.length for span in spans)
            spans.extend(self._admit_waiting(budget))
        return spans

    def restart(self, sequence: Sequence) -> None:
        """Have a running sequence computed anew from its first token, which its length now rotates.

        It goes on where it is, with one block of its own: its last one was nobody else's.
        """
        self._release(sequence)
        sequence.computed = 0
        sequence.rotated_for = len(sequence.tokens)
        sequence.root_key = root_key(sequence.root_key, b"restarted")
        sequence.block_keys.clear()
        self._extend(sequence, 1)

    def commit(self, span: Span) -> None:
        """Record that `span` has been computed, and publish the blocks it filled for reuse."""
        sequence = span.sequence
        sequence.computed = span.stop
        sequence.furthest = max(sequence.furthest, span.stop)
        first = span.start // self._block_size
        for index, key in enumerate(self._keys(sequence, span.stop)):
            if index >= first:
                self._pool.publish(sequence.blocks[index], key)

    def _continue_running(self, budget: int) -> list[Span]:
        spans: list[Span] = []
        # Preemption shortens the list from its end, so the index stays valid.
        while budget and len(spans) < len(self.running):
            sequence = self.running[len(spans)]
            length = min(sequence.pending, budget)
            if not self._make_room(sequence, sequence.computed + length):
                break
            spans.append(Span(sequence, sequence.computed, length))
            budget -= length
        return spans

    def _make_room(self, sequence: Sequence, length: int) -> bool:
        """Give `sequence` the blocks for `length` tokens; False if it was preempted itself."""
        needed = self._blocks_for(length) - len(sequence.blocks)
        while needed > self._pool.free:
            victim = self.running.pop()
            self._preempt(victim)
            if victim is sequence:
                return False
        self._extend(sequence, needed)
        return True

    def _preempt(self, victim: Sequence) -> None:
        self._release(victim)
        victim.computed = 0
        self.waiting.push_preempted(victim)
        self.preemptions += 1

    def _admit_waiting(self, budget: int) -> Iterator[Span]:
        while budget and self.waiting and len(self.running) < self._max_running:
            sequence = self.waiting.peek()
            # At least one token is left to compute: its hidden state yields the next one.
            reused = self._pool.match(self._keys(sequence, len(sequence.tokens) - 1))
            # Room for the whole prompt, though this step may compute only a part of it:
            # to begin what cannot be finished leads to preemptions.
            needed = self._blocks_for(len(sequence.tokens)) - len(reused)
            if needed + self._pool.idle(reused) > self._pool.free:
                return
            self._pool.hold(reused)
            sequence.blocks = reused
            sequence.computed = len(reused) * self._block_size
            if sequence.furthest == 0:
                sequence.cached_tokens = sequence.furthest = sequence.computed
            length = min(sequence.pending, budget)
            self._extend(sequence, self._blocks_for(sequence.computed + length) - len(reused))
            self.running.append(self.waiting.pop())
            budget -= length
            yield Span(sequence, sequence.computed, length)

    def _keys(self, sequence: Sequence, length: int) -> Iterator[bytes]:
        """The keys of the full blocks among the first `length` tokens, computed once per block."""
        size, known = self._block_size, sequence.block_keys
        for index in range(length // size):
            if index == len(known):
                parent = known[-1] if known else sequence.root_key
                known.append(block_key(parent, sequence.tokens[index * size : (index + 1) * size]))
            yield known[index]

    def _extend(self, sequence: Sequence, count: int) -> None:
        last = sequence.blocks[-1] if sequence.blocks else None
        sequence.blocks.extend(self._pool.allocate(count, after=last))

    def _release(self, sequence: Sequence) -> None:
        self._pool.release(sequence.blocks)
        sequence.blocks = []

    def _blocks_for(self, length: int) -> int:
        return -(-length // self._block_size)
