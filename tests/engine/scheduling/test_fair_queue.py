"""Fair shares among tenants: the bounds of the virtual token counter, and what tenants notice of them."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine import RequestError
from farebox_engine.scheduling.fair_queue import CACHED_COST, INPUT_COST, OUTPUT_COST, FairQueue
from farebox_engine.scheduling.fair_shares import IDLE_KEPT
from farebox_engine.scheduling.sequence import Sequence
from tests.engine.scheduling.test_scheduler import compute, make_scheduler
from tests.engine.sequences import make_sequence

LONGEST = 12
SLOTS = 4


class Bench:
    """A scheduler that is always full, and an account of its own of what each tenant was given.

    `service` is in the unit of the counters: weighted tokens, divided by the tenant's weight.
    """

    def __init__(self, blocks: int = 1000) -> None:
        self.scheduler, _ = make_scheduler(blocks=blocks, budget=16, max_running=SLOTS)
        self.steps = 0
        self.service: dict[str, float] = defaultdict(float)
        self.first_token: dict[Sequence, int] = {}
        self.finished: list[Sequence] = []
        self._begun: set[Sequence] = set()
        self._submitted: dict[str, list[Sequence]] = {}

    def submit(
        self, tenant: str, prompt: int, output: int, *, weight: float = 1.0, priority: int = 0
    ) -> Sequence:
        # No two prompts begin alike, so that none is found in the cache.
        start = 100 * sum(map(len, self._submitted.values()))
        tokens = range(start, start + prompt)
        sequence = make_sequence(tokens, token_limit=output, tenant=tenant, weight=weight, priority=priority)
        self._submitted.setdefault(tenant, []).append(sequence)
        self.scheduler.add(sequence)
        return sequence

    def backlogged(self, tenant: str) -> bool:
        return any(sequence in self.scheduler.waiting for sequence in self._submitted.get(tenant, ()))

    def step(self) -> None:
        spans = self.scheduler.schedule()
        self.steps += 1
        for span in spans:
            request = span.sequence.request
            if span.sequence not in self._begun:
                self._begun.add(span.sequence)
                self.service[str(request.tenant)] += (
                    INPUT_COST * len(request.prompt_token_ids) / request.weight
                )
            if span.samples:
                self.first_token.setdefault(span.sequence, self.steps)
                self.service[str(request.tenant)] += OUTPUT_COST / request.weight
        self.finished += compute(self.scheduler, spans)

    def run_until_token_of(self, sequence: Sequence) -> int:
        """Steps until the sequence's first token."""
        start = self.steps
        while sequence not in self.first_token:
            self.step()
        return self.steps - start


lengths = st.tuples(st.integers(1, LONGEST), st.integers(1, LONGEST))
# Mixed requests, or all alike: so one tenant may send long prompts and the other want long answers.
queues = st.lists(lengths, min_size=10, max_size=40) | st.builds(
    lambda shape, count: [shape] * count, lengths, st.integers(20, 40)
)
weights = st.sampled_from([0.5, 1.0, 2.0])


@settings(max_examples=100, deadline=None)
@given(
    loads=st.tuples(queues, queues),
    shares=st.tuples(weights, weights),
    late=st.integers(0, 60),
    blocks=st.integers(6, 40),
)
def test_two_backlogged_tenants_never_drift_apart(
    loads: tuple[list[tuple[int, int]], ...], shares: tuple[float, float], late: int, blocks: int
) -> None:
    """Theorem 4.4 of the paper, with few enough blocks that sequences are preempted, too."""
    bench = Bench(blocks)
    # All that one tenant can be given between two moments at which it is its turn, per unit of weight.
    bound = (INPUT_COST * LONGEST + OUTPUT_COST * SLOTS * LONGEST) / min(shares)
    differences: list[float] = []
    for prompt, output in loads[0]:
        bench.submit("early", prompt, output, weight=shares[0])
    while not bench.scheduler.idle or bench.steps <= late:
        if bench.steps == late:
            for prompt, output in loads[1]:
                bench.submit("late", prompt, output, weight=shares[1])
        if bench.backlogged("early") and bench.backlogged("late"):
            differences.append(bench.service["early"] - bench.service["late"])
            assert max(differences) - min(differences) <= 2 * bound
        bench.step()
    assert len(bench.finished) == sum(map(len, loads))


def test_five_hundred_queued_requests_delay_another_tenant_by_no_more_than_its_share() -> None:
    def first_token_after_a_flood(tenant: str) -> int:
        bench = Bench()
        for _ in range(500):
            bench.submit("flood", prompt=8, output=12)
        for _ in range(20):
            bench.step()
        return bench.run_until_token_of(bench.submit(tenant, prompt=8, output=12))

    alone = Bench()
    undisturbed = alone.run_until_token_of(alone.submit("small", prompt=8, output=12))
    # The flood's requests of 12 tokens leave their slots one by one, and the first free one is its.
    assert first_token_after_a_flood("small") <= undisturbed + 12
    # First come, first served: as if both were the same tenant.
    assert first_token_after_a_flood("flood") > 1000


def test_a_tenant_beside_a_flood_gets_half_of_the_machine() -> None:
    bench = Bench()
    for _ in range(500):
        bench.submit("flood", prompt=8, output=12)
    for _ in range(60):
        bench.submit("small", prompt=8, output=12)
    while bench.backlogged("small"):
        bench.step()
    finished = Counter(sequence.request.tenant for sequence in bench.finished)
    assert abs(finished["flood"] - finished["small"]) <= SLOTS


def test_weights_divide_the_machine() -> None:
    bench = Bench()
    for _ in range(200):
        bench.submit("heavy", prompt=8, output=8, weight=3.0)
        bench.submit("light", prompt=8, output=8)
    for _ in range(300):
        bench.step()
    finished = Counter(sequence.request.tenant for sequence in bench.finished)
    assert 2.7 < finished["heavy"] / finished["light"] < 3.3


def test_idle_tenants_save_up_no_credit() -> None:
    bench = Bench()
    for _ in range(100):
        bench.submit("busy", prompt=8, output=8)
    for _ in range(100):
        bench.step()
    for _ in range(100):
        bench.submit("rested", prompt=8, output=8)
    before = bench.service["busy"]
    for _ in range(50):
        bench.step()
    gained = bench.service["busy"] - before
    assert gained > 0.7 * bench.service["rested"]


def test_a_preempted_sequence_is_next_of_its_tenant_and_charged_once() -> None:
    queue = FairQueue()
    first, second = make_sequence(range(10), tenant="a"), make_sequence([1], tenant="a")
    other, last = make_sequence(range(15), tenant="b"), make_sequence([1], tenant="b")
    for sequence in (first, second, other, last):
        queue.push(sequence)
    queue.admit(first)
    queue.push_preempted(first)
    assert queue.peek() is other
    queue.admit(other)
    assert queue.peek() is first
    queue.admit(first)
    assert queue.peek() is second, "10 against 15"


def test_the_counter_grows_by_what_was_served_and_not_by_what_was_cancelled() -> None:
    queue = FairQueue()
    served, cancelled = make_sequence(range(10), tenant="a"), make_sequence(range(500), tenant="a")
    other, last = make_sequence(range(11), tenant="b"), make_sequence([1], tenant="b")
    for sequence in (served, cancelled, other, last):
        queue.push(sequence)
    queue.admit(served)
    assert queue.peek() is other
    queue.remove(cancelled)
    queue.push(again := make_sequence([1], tenant="a"))
    queue.admit(other)
    assert queue.peek() is again, "10 tokens against 11: the cancelled 500 do not count"
    queue.charge_output(served, 1)
    assert queue.peek() is last, "12 against 11"


def test_counters_of_idle_tenants_are_forgotten() -> None:
    queue = FairQueue()
    for number in range(10 * IDLE_KEPT):
        queue.push(sequence := make_sequence([1, 2], tenant=str(number)))
        assert queue.peek() is sequence
        queue.admit(sequence)
        # Every other one is ahead of all newcomers, which is to be remembered for a while.
        queue.charge_output(sequence, 1 + 10 * (number % 2))
        queue.leave(sequence)
        assert queue.tenants <= 2 * IDLE_KEPT + 1
    assert len(queue) == 0


def test_a_higher_priority_goes_first_and_takes_the_slots_of_a_lower_one() -> None:
    bench = Bench()
    batch = [bench.submit("batch", prompt=8, output=LONGEST, priority=-1) for _ in range(SLOTS + 1)]
    while len(bench.first_token) < SLOTS:
        bench.step()
    usual = bench.submit("user", prompt=8, output=LONGEST)
    urgent = bench.submit("user", prompt=8, output=LONGEST, priority=1)
    bench.step()
    assert bench.scheduler.running[0] is urgent
    assert {urgent, usual} < set(bench.scheduler.running)
    assert [sequence in bench.scheduler.waiting for sequence in batch] == [False, False, True, True, True]
    while not bench.scheduler.idle:
        bench.step()
    assert set(bench.finished) == {*batch, usual, urgent}
    assert all(sequence.completion_length == LONGEST for sequence in bench.finished)


def test_a_long_prompt_of_a_lower_class_does_not_hold_up_a_higher_one() -> None:
    bench = Bench()
    bench.submit("batch", prompt=90, output=1, priority=-1)
    bench.step()
    assert bench.run_until_token_of(bench.submit("user", prompt=8, output=1)) == 1


def test_equal_prompts_in_one_step_are_computed_once_and_hold_up_nobody() -> None:
    scheduler, _ = make_scheduler(budget=64)
    choices = [make_sequence(range(18), tenant="a") for _ in range(3)]
    other = make_sequence(range(50, 68), tenant="a")
    for sequence in (*choices, other):
        scheduler.add(sequence)
    spans = scheduler.schedule()
    assert [(span.sequence, span.length) for span in spans] == [(choices[0], 18), (other, 18)]
    compute(scheduler, spans)
    spans = scheduler.schedule()
    assert [(span.sequence, span.start, span.length) for span in spans[2:]] == [
        (choices[1], 16, 2),
        (choices[2], 16, 2),
    ]
    assert choices[1].blocks[:4] == choices[2].blocks[:4] == choices[0].blocks[:4]


def test_equal_prompts_go_on_when_the_first_of_them_is_gone() -> None:
    scheduler, _ = make_scheduler(budget=8)
    first, second = make_sequence(range(18)), make_sequence(range(18))
    scheduler.add(first)
    scheduler.add(second)
    compute(scheduler, scheduler.schedule())
    scheduler.remove(first)
    (span,) = scheduler.schedule()
    assert (span.sequence, span.start, span.length) == (second, 8, 8)
    assert second.reused_tokens == 8


@pytest.mark.parametrize(
    ("name", "value"), [("weight", 0), ("weight", -1.0), ("weight", float("nan")), ("priority", 2)]
)
def test_shares_and_priorities_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(RequestError) as failure:
        make_sequence([1], **{name: value})  # type: ignore[arg-type]
    assert failure.value.param == name


def test_cached_tokens_are_charged_less() -> None:
    queue = FairQueue()
    cached, computed = make_sequence(range(100), tenant="a"), make_sequence(range(50), tenant="b")
    cached.reused_tokens = 80
    for sequence in (cached, computed):
        queue.push(sequence)
        queue.push(make_sequence([1], tenant=sequence.request.tenant))
    queue.admit(cached)
    queue.admit(computed)
    assert 20 * INPUT_COST + 80 * CACHED_COST < 50 * INPUT_COST
    chosen = queue.peek()
    assert chosen is not None
    assert chosen.request.tenant == "a"
