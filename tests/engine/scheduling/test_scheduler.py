"""The scheduler alone: budgets, order, blocks and preemption under random loads."""

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine.params import PRIORITIES
from farebox_engine.scheduling.blocks import BlockPool
from farebox_engine.scheduling.scheduler import Scheduler
from farebox_engine.scheduling.sequence import Sequence, Span
from tests.engine.sequences import make_sequence

BLOCK = 4


def make_scheduler(
    *, blocks: int = 32, budget: int = 16, max_running: int = 4, drafts: int = 0
) -> tuple[Scheduler, BlockPool]:
    pool = BlockPool(blocks)
    scheduler = Scheduler(pool, block_size=BLOCK, token_budget=budget, max_running=max_running, drafts=drafts)
    return scheduler, pool


def compute(scheduler: Scheduler, spans: list[Span]) -> list[Sequence]:
    """Pretend to run a step: every sequence at its end gets a token; those at their limit leave.

    A draft that is the token got brings the next. Every thirteenth token is not what it was before.
    """
    finished = []
    for span in spans:
        sequence = span.sequence
        scheduler.commit(span.without_drafts)
        if not span.samples:
            continue
        grow(scheduler, sequence)
        for draft in span.drafts:
            if sequence.tokens[-1] != draft:
                break
            scheduler.commit(Span(sequence, sequence.computed, 1))
            grow(scheduler, sequence)
        scheduler.trim(sequence)
        if sequence.completion_length == sequence.token_limit:
            scheduler.remove(sequence)
            finished.append(sequence)
    return finished


def grow(scheduler: Scheduler, sequence: Sequence) -> None:
    scheduler.charge_output(sequence)
    length = len(sequence.tokens)
    sequence.append(length if length % 13 == 0 else length % 7)


Load = list[tuple[int, int, int, int, str]]


@st.composite
def loads(draw: st.DrawFn) -> Load:
    """(prompt length, tokens to generate, step of arrival, priority, tenant); each fits into 12 blocks."""
    lengths = st.tuples(
        st.integers(1, 30),
        st.integers(1, 17),
        st.integers(0, 20),
        st.sampled_from(PRIORITIES),
        st.sampled_from("ab"),
    )
    return draw(st.lists(lengths, min_size=1, max_size=10))


@settings(max_examples=150, deadline=None)
@given(
    load=loads(),
    blocks=st.integers(12, 30),
    budget=st.integers(4, 40),
    max_running=st.integers(1, 4),
    drafts=st.integers(0, 6),
)
def test_any_load_is_computed_exactly_once_and_frees_everything(
    load: Load, blocks: int, budget: int, max_running: int, drafts: int
) -> None:
    scheduler, pool = make_scheduler(blocks=blocks, budget=budget, max_running=max_running, drafts=drafts)
    # Equal tokens in all prompts, so that prefixes are shared, split and given up all the time.
    arrivals = [
        (step, make_sequence([0] * prompt, token_limit=tokens, priority=priority, tenant=tenant))
        for prompt, tokens, step, priority, tenant in load
    ]
    finished: list[Sequence] = []
    for step in range(5_000):
        for _, sequence in (arrival for arrival in arrivals if arrival[0] == step):
            scheduler.add(sequence)
        if scheduler.idle and len(finished) == len(load):
            break
        spans = scheduler.schedule()
        check_step(spans, budget, max_running, scheduler)
        assert spans or scheduler.idle, "work is waiting and nothing is computed"
        finished += compute(scheduler, spans)
        held = {block for sequence in scheduler.running for block in sequence.blocks}
        assert pool.free == blocks - len(held)
        for sequence in scheduler.running:
            assert len(sequence.blocks) <= -(-len(sequence.tokens) // BLOCK)
    assert len(finished) == len(load)
    assert pool.free == blocks
    for sequence in finished:
        assert sequence.computed == len(sequence.tokens) - 1
        assert sequence.completion_length == sequence.token_limit


def check_step(spans: list[Span], budget: int, max_running: int, scheduler: Scheduler) -> None:
    assert sum(span.length for span in spans) <= budget
    assert len(scheduler.running) <= max_running
    assert len({span.sequence for span in spans}) == len(spans)
    # No token is written where another sequence may read.
    written: set[tuple[int, int]] = set()
    for span in spans:
        assert span.length >= 1
        assert span.start == span.sequence.computed
        assert span.stop <= len(span.sequence.blocks) * BLOCK
        slots = {
            (span.sequence.blocks[position // BLOCK], position % BLOCK)
            for position in range(span.start, span.stop)
        }
        assert not slots & written
        written |= slots
    unfinished = [span.sequence.request.priority for span in spans if not span.samples]
    assert len(unfinished) == len(set(unfinished)), "a class begins no second prompt before the first is done"


def test_decoding_never_waits_for_a_long_prompt() -> None:
    scheduler, _ = make_scheduler(budget=8)
    decoding, long = make_sequence([1, 2, 3], token_limit=100), make_sequence([4] * 40)
    scheduler.add(decoding)
    compute(scheduler, scheduler.schedule())
    scheduler.add(long)
    for _ in range(5):
        spans = scheduler.schedule()
        assert [(span.sequence, span.length) for span in spans] == [(decoding, 1), (long, 7)]
        compute(scheduler, spans)


def test_the_last_arrival_is_preempted_and_resumes_first() -> None:
    scheduler, _ = make_scheduler(blocks=4, budget=16)
    old, young, waiting = (make_sequence([number] * 7, token_limit=9) for number in range(3))
    for sequence in (old, young, waiting):
        scheduler.add(sequence)
    while not scheduler.preemptions:
        compute(scheduler, scheduler.schedule())
    assert scheduler.running == [old]
    assert young.computed == 0
    assert not young.blocks
    assert scheduler.waiting.peek() is young


def test_prefixes_are_shared_while_their_owner_still_runs() -> None:
    scheduler, pool = make_scheduler()
    first = make_sequence([1] * 10)
    scheduler.add(first)
    compute(scheduler, scheduler.schedule())
    scheduler.note_served(first)
    second = make_sequence([1] * 10)
    scheduler.add(second)
    compute(scheduler, scheduler.schedule())
    assert second.cached_tokens == 8
    assert second.blocks[:2] == first.blocks[:2]
    assert pool.holders(first.blocks[0]) == 2


def begin(scheduler: Scheduler, sequence: Sequence) -> Sequence:
    """One step later."""
    scheduler.add(sequence)
    compute(scheduler, scheduler.schedule())
    return sequence


def test_what_nobody_was_served_is_reused_but_not_as_cached() -> None:
    scheduler, _ = make_scheduler()
    first = begin(scheduler, make_sequence([1] * 10))
    second = begin(scheduler, make_sequence([1] * 10))
    assert (second.furthest > 8, second.blocks[:2] == first.blocks[:2]) == (True, True)
    assert second.cached_tokens == 0
    scheduler.remove(first)
    assert begin(scheduler, make_sequence([1] * 10)).cached_tokens == 0, "it left unserved"
    scheduler.note_served(second)
    assert begin(scheduler, make_sequence([1] * 10)).cached_tokens == 8, "one that reused it is served"
    scheduler.remove(second)
    assert begin(scheduler, make_sequence([1] * 11)).cached_tokens == 8, "and stays so"


def test_what_was_served_grows_with_the_answer() -> None:
    scheduler, _ = make_scheduler()
    first = begin(scheduler, make_sequence([1] * 4, max_tokens=20))
    scheduler.note_served(first)
    assert begin(scheduler, make_sequence([1] * 5)).cached_tokens == 4
    while first.computed < 8:
        compute(scheduler, scheduler.schedule())
    scheduler.remove(first)
    assert begin(scheduler, make_sequence([*first.tokens[:8], 1])).cached_tokens == 8


def test_what_is_served_after_its_end_is_cached_from_then_on() -> None:
    scheduler, _ = make_scheduler()
    first = begin(scheduler, make_sequence([1] * 10))
    scheduler.remove(first)
    assert begin(scheduler, make_sequence([1] * 10)).cached_tokens == 0
    scheduler.note_served(first)
    assert begin(scheduler, make_sequence([1] * 10)).cached_tokens == 8


def test_a_block_that_is_needed_for_something_else_was_served_no_more() -> None:
    pool = BlockPool(1)
    key = b"key"
    for served in (True, False):
        (block,) = pool.allocate(1)
        pool.publish(block, key)
        assert pool.served([block]) == 0
        if served:
            pool.serve([key])
            assert pool.served([block]) == 1
        pool.release([block])


def test_removing_a_waiting_sequence_leaves_the_others_in_order() -> None:
    scheduler, _ = make_scheduler(max_running=1)
    sequences = [make_sequence([number]) for number in range(3)]
    for sequence in sequences:
        scheduler.add(sequence)
    scheduler.remove(sequences[1])
    assert sequences[1] not in scheduler
    compute(scheduler, scheduler.schedule())
    scheduler.remove(sequences[0])
    assert [span.sequence for span in scheduler.schedule()] == [sequences[2]]
