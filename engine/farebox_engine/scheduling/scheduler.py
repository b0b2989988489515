"""Which tokens each step computes."""

from __future__ import annotations

from bisect import insort
from collections import deque

from farebox_engine.scheduling.blocks import BlockPool, root_key
from farebox_engine.scheduling.drafter import Drafter
from farebox_engine.scheduling.fair_queue import FairQueue
from farebox_engine.scheduling.prefix_keys import keys_underway, prefix_keys
from farebox_engine.scheduling.sequence import Sequence, Span
from farebox_engine.scheduling.step_limit import StepLimit
from farebox_engine.scheduling.step_plan import StepPlan


class Scheduler:
    """Continuous batching with chunked prefill.

    Each step computes at most `token_budget` tokens: first one of every decoding
    sequence, then prompt tokens, a long prompt over several steps, so that decoding never
    waits for it. A sequence takes KV blocks as it grows. When none are free, the last
    in rank gives up its own and is computed again later.

    What a step has left, of tokens and of blocks, may go to drafts: up to `drafts` tokens that
    a decoding sequence may generate next, computed in advance to be verified. For a runner
    that computes ahead, a sequence holds blocks for `lookahead` tokens more than its step
    computes.

    The running sequences are kept by rank: by priority, then in the order of their
    admission. The first is never preempted, so that there is always progress. Who is
    admitted next is `FairQueue`'s affair.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        block_size: int,
        token_budget: int,
        max_running: int,
        drafts: int = 0,
        lookahead: int = 0,
    ) -> None:
        self.preemptions = 0
        self.running: list[Sequence] = []
        self.waiting = FairQueue()
        self._told: deque[Sequence] = deque()
        self._pool = pool
        self._block_size = block_size
        self.limit = StepLimit(token_budget)
        self._max_running = max_running
        self._drafts = drafts
        self._lookahead = lookahead

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence in self.running or sequence in self.waiting

    def add(self, sequence: Sequence) -> None:
        self.waiting.push(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a finished or cancelled sequence out and release its blocks."""
        if sequence.served:
            self._serve(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
            self.waiting.leave(sequence)
        else:
            self.waiting.remove(sequence)
        self._release(sequence)

    def requeue(self) -> None:
        """Send the running sequences back to the queue, to be computed again from their tokens."""
        for sequence in reversed(self.running):
            self._evict(sequence)
        self.running.clear()
        self.waiting.restore()

    def note_served(self, sequence: Sequence) -> None:
        """Note that a sequence was served, running or ended; may be called from any thread."""
        sequence.served = True
        self._told.append(sequence)

    def use(self, pool: BlockPool) -> None:
        """Go on with other blocks; none of the old ones may be in use."""
        self._pool = pool

    def schedule(self) -> list[Span]:
        """The next step's spans, decoding ones first; their blocks are allocated."""
        plan = StepPlan(self.limit.next())
        for sequence in [each for each in self.running if each.pending == 1]:
            self._continue(sequence, plan)
        for sequence in [each for each in self.running if each.pending > 1]:
            # A long prompt of a lower class must not hold up a higher one.
            self._admit_waiting(plan, above=sequence.request.priority)
            self._continue(sequence, plan)
        self._admit_waiting(plan)
        if self._drafts and not plan.short_of_blocks:
            self._speculate(plan)
        return list(plan.spans.values())

    def charge_output(self, sequence: Sequence) -> None:
        """Charge a running sequence's tenant for a generated token."""
        self.waiting.charge_output(sequence, 1)

    def restart(self, sequence: Sequence) -> None:
        """Have a running sequence computed anew from its first token, which its length now rotates.

        It goes on where it is, with one block of its own: its last one was nobody else's.
        """
        self._release(sequence)
        sequence.computed = sequence.served_blocks = 0
        sequence.rotated_for = len(sequence.tokens)
        sequence.root_key = root_key(sequence.root_key, b"restarted")
        sequence.block_keys.clear()
        self._extend(sequence, 1)

    def send_back(self, sequence: Sequence) -> None:
        """Have a running sequence wait for its turn to be computed again."""
        self.running.remove(sequence)
        self._evict(sequence)

    def trim(self, sequence: Sequence) -> None:
        """Give back the blocks that only refused drafts reached into."""
        kept = self._blocks_for(len(sequence.tokens))
        self._pool.release(sequence.blocks[kept:])
        del sequence.blocks[kept:]

    def commit(self, span: Span) -> None:
        """Record that `span` has been computed, and publish the blocks it filled for reuse."""
        sequence = span.sequence
        sequence.computed = span.stop
        sequence.furthest = max(sequence.furthest, span.stop)
        first = span.start // self._block_size
        if first == span.stop // self._block_size:
            return
        for index, key in enumerate(prefix_keys(sequence, span.stop, self._block_size)):
            if index >= first:
                self._pool.publish(sequence.blocks[index], key)

    def _continue(self, sequence: Sequence, plan: StepPlan) -> None:
        length = plan.take(sequence)
        # Without blocks: preempted while this step was put together.
        if (
            length
            and sequence.blocks
            and self._make_room(sequence, self._ahead(sequence, sequence.computed + length), plan)
        ):
            plan.add(sequence, length)

    def _speculate(self, plan: StepPlan) -> None:
        for sequence, span in plan.spans.items():
            if span.length > 1 or not span.samples or not sequence.can_speculate:
                continue
            if sequence.drafter is None:
                sequence.drafter = Drafter(self._drafts)
            # Blocks are taken from nobody for a guess, and the step yields one token more than drafts.
            blocks = len(sequence.blocks) + self._pool.free
            room = min(
                plan.budget,
                sequence.token_limit - sequence.completion_length - 1,
                blocks * self._block_size - span.stop,
            )
            drafts = sequence.drafter.propose(sequence.tokens, room)
            if drafts:
                self._extend(sequence, self._blocks_for(span.stop + len(drafts)) - len(sequence.blocks))
                plan.spans[sequence] = Span(sequence, span.start, 1 + len(drafts), drafts)
                plan.budget -= len(drafts)

    def _make_room(self, sequence: Sequence, length: int, plan: StepPlan) -> bool:
        """Give `sequence` the blocks for `length` tokens; False if it was preempted itself."""
        needed = self._blocks_for(length) - len(sequence.blocks)
        while needed > self._pool.free:
            plan.short_of_blocks = True
            victim = self.running[-1]
            self._preempt(victim, plan)
            if victim is sequence:
                return False
        self._extend(sequence, needed)
        return True

    def _preempt(self, victim: Sequence, plan: StepPlan) -> None:
        plan.drop(victim)
        self.send_back(victim)
        self.preemptions += 1

    def _evict(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.computed = sequence.served_blocks = 0
        self.waiting.push_preempted(sequence)

    def _admit_waiting(self, plan: StepPlan, above: int | None = None) -> None:
        """Admit waiting sequences, those of a priority higher than `above` if that is given."""
        # Blocks freed by a preemption go to those who were short of them, not to newcomers.
        if plan.short_of_blocks or self.waiting.peek(above) is None:
            return
        underway = keys_underway(self.running, self._block_size)
        while plan.budget and (sequence := self.waiting.peek(above)) is not None:
            if len(self.running) >= self._max_running and not self._outranks_some(sequence):
                break
            priority = sequence.request.priority
            keys = list(prefix_keys(sequence, sequence.reusable, self._block_size))
            reused = self._pool.match(keys)
            missing = keys[len(reused) :]
            if missing and underway.get(missing[0], priority - 1) >= priority:
                # Another computes the same prefix just now: to wait for it is to get it from the cache.
                self.waiting.pass_over(sequence)
            elif self._admit(sequence, reused, plan):
                underway.update(dict.fromkeys(missing, priority))
            else:
                break
        self.waiting.restore()

    def _admit(self, sequence: Sequence, reused: list[int], plan: StepPlan) -> bool:
        """Begin a sequence after its `reused` blocks, if there is room for all of its tokens.

        For all, though this step may compute only a part: to begin what cannot be
        finished leads to preemptions.
        """
        self._pool.hold(reused)
        needed = self._blocks_for(self._ahead(sequence, len(sequence.tokens))) - len(reused)
        if not self._make_way(sequence, needed, plan):
            self._pool.release(reused)
            return False
        sequence.blocks = reused
        sequence.computed = len(reused) * self._block_size
        if not sequence.admitted:
            sequence.reused_tokens = sequence.furthest = sequence.computed
            sequence.cached_tokens = self._served_blocks(reused) * self._block_size
        self.waiting.admit(sequence)
        insort(self.running, sequence, key=lambda each: -each.request.priority)
        length = plan.take(sequence)
        wanted = self._blocks_for(self._ahead(sequence, sequence.computed + length))
        self._extend(sequence, wanted - len(reused))
        plan.add(sequence, length)
        return True

    def _served_blocks(self, reused: list[int]) -> int:
        """How many of the `reused` blocks, from the first on, were served by now."""
        while self._told:
            self._serve(self._told.popleft())
        return self._pool.served(reused)

    def _serve(self, sequence: Sequence) -> None:
        full = sequence.computed // self._block_size
        if full > sequence.served_blocks:
            self._pool.serve(sequence.block_keys[sequence.served_blocks : full])
            sequence.served_blocks = full

    def _outranks_some(self, sequence: Sequence) -> bool:
        return bool(self.running) and self.running[-1].request.priority < sequence.request.priority

    def _make_way(self, sequence: Sequence, blocks: int, plan: StepPlan) -> bool:
        """Make sure of a slot and free `blocks`, at the cost of lower classes if need be."""
        lower = [each for each in self.running if each.request.priority < sequence.request.priority]
        if blocks > self._pool.free + sum(len(each.blocks) for each in lower):
            return False
        while len(self.running) >= self._max_running or blocks > self._pool.free:
            if not lower:
                return False
            self._preempt(lower.pop(), plan)
        return True

    def _extend(self, sequence: Sequence, count: int) -> None:
        last = sequence.blocks[-1] if sequence.blocks else None
        sequence.blocks.extend(self._pool.allocate(count, after=last))

    def _release(self, sequence: Sequence) -> None:
        self._pool.release(sequence.blocks)
        sequence.blocks = []

    def _ahead(self, sequence: Sequence, length: int) -> int:
        """The length to hold blocks for once `length` tokens are computed."""
        # Past its end a sequence needs none, and a cache of one context may have none.
        longest = sequence.prompt_length + sequence.token_limit
        return max(length, min(length + self._lookahead, longest))

    def _blocks_for(self, length: int) -> int:
        return -(-length // self._block_size)
