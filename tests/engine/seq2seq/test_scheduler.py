"""Blocks under any order of arrivals, beams and departures: enough for all, none written to while shared."""

import math
from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from farebox_engine.params import PRIORITIES
from farebox_engine.scheduling.blocks import BlockPool
from farebox_engine.scheduling.sequence import Sequence
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.seq2seq.scheduler import Seq2SeqScheduler
from tests.engine.seq2seq.decodings import make_decoding
from tests.engine.sequences import make_sequence

BLOCK = 4
BLOCKS = 24
HYPOTHESES = 6

# Source length, beams, target length; all fit into the pool alone.
Shape = tuple[int, int, int]
SHAPES = st.tuples(st.integers(1, 16), st.integers(1, 4), st.integers(1, 20))


class Rig:
    """A scheduler whose requests grow as a model's would, with parents drawn at random."""

    def __init__(self) -> None:
        self.pool = BlockPool(BLOCKS)
        self.shapes: dict[Sequence, Shape] = {}
        # Output tokens of all hypotheses; what is computed again is not counted.
        self.computed: Counter[Sequence] = Counter()
        self.scheduler = Seq2SeqScheduler(
            self.pool, self._plan, block_size=BLOCK, token_budget=20, max_hypotheses=HYPOTHESES
        )

    def add(self, shape: Shape, tenant: str = "", weight: float = 1.0, priority: int = 0) -> Sequence:
        sequence = make_sequence([1] * shape[0], tenant=tenant, weight=weight, priority=priority)
        self.shapes[sequence] = shape
        self.scheduler.add(sequence)
        return sequence

    def step(self, parents: Iterable[int] = ()) -> None:
        admitted = self.scheduler.admit()
        assert len(admitted) <= 1 or sum(each.source_length for each in admitted) <= 20
        running = self.scheduler.schedule()
        self._check(running)
        choice = iter(parents)
        for each in running:
            lagged = each.lags
            self.scheduler.commit(each)
            if lagged:
                continue
            self.computed[each.sequence] += len(each.rows)
            if each.computed == self.shapes[each.sequence][2]:
                self.scheduler.remove(each.sequence)
                continue
            chosen = [each.rows[next(choice, 0) % len(each.rows)] for _ in each.rows]
            rows = [Hypothesis([*row.tokens, 7], list(row.blocks)) for row in chosen]
            self.scheduler.replace_rows(each, rows)

    def lose_cache(self) -> None:
        self.pool = BlockPool(BLOCKS)
        self.scheduler.requeue()
        self.scheduler.use(self.pool)

    def _check(self, running: list[Decoding]) -> None:
        assert sum(len(each.rows) for each in running) <= HYPOTHESES
        targets = [target for each in running for _, target in each.copies]
        assert len(targets) == len(set(targets))
        written = [row.blocks[-1] for each in running for row in each.rows]
        assert all(self.pool.holders(block) == 1 for block in written)
        for each in running:
            assert len(each.source_blocks) == math.ceil(each.source_length / BLOCK)
            for row in each.rows:
                assert len(row.blocks) == math.ceil(each.target_length / BLOCK)
        held = {block for each in running for block in each.source_blocks}
        held |= {block for each in running for row in each.rows for block in row.blocks}
        assert self.pool.free == BLOCKS - len(held)

    def _plan(self, sequence: Sequence) -> Decoding:
        source, beams, target = self.shapes[sequence]
        decoding = make_decoding([1] * source, [[0]] * beams)
        decoding.sequence = sequence
        decoding.reserved = math.ceil(source / BLOCK) + beams * math.ceil(target / BLOCK)
        return decoding


@given(
    st.lists(st.one_of(SHAPES, st.integers(0, 5), st.none()), max_size=40),
    st.lists(st.integers(0, 3), max_size=200),
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(PRIORITIES)), min_size=40, max_size=40),
)
def test_no_order_of_events_runs_out_of_blocks_or_loses_one(
    events: list[Shape | int | None], parents: list[int], senders: list[tuple[str, int]]
) -> None:
    rig = Rig()
    begun: list[Sequence] = []
    for number, event in enumerate(events):
        if isinstance(event, tuple):
            tenant, priority = senders[number]
            begun.append(rig.add(event, tenant, priority=priority))
        elif event is not None and event < len(begun):
            # Cancelled, wherever it is; nothing if it has ended.
            rig.scheduler.remove(begun[event])
        elif event is not None:
            rig.lose_cache()
        rig.step(parents[number:])
    for _ in range(25 * len(begun)):
        rig.step(parents)
    assert rig.scheduler.idle
    assert (rig.scheduler.running, rig.scheduler.waiting) == (0, 0)
    assert rig.pool.free == BLOCKS


def test_one_tenants_requests_are_served_as_they_come() -> None:
    rig = Rig()
    large = rig.add((16, 4, 20))
    blocked, small = rig.add((3, 1, 20)), rig.add((1, 1, 1))
    rig.step([])
    rig.step([])
    assert [each.sequence for each in rig.scheduler.decodings()] == [large]
    assert (rig.scheduler.running, rig.scheduler.waiting) == (1, 2)
    rig.scheduler.remove(large)
    rig.step([])
    # Both at once: there is room, and the small one did not overtake.
    assert blocked in rig.scheduler
    assert small not in rig.scheduler
