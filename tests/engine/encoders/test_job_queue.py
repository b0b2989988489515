"""An encoder's tenants share it by tokens, however long the inputs and however many the requests."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from farebox_engine.encoders.job import Job, JobInput, JobQueue
from farebox_engine.encoders.tokenizer import Tokens

BUDGET = 100
LONGEST = 100


def make_job(tenant: str, *lengths: int) -> Job:
    inputs = [Tokens(np.zeros(length, np.int64), np.zeros(length, np.int64)) for length in lengths]
    return Job(inputs, tenant, submitted_at=0.0)


def taken(items: list[JobInput]) -> Counter[str]:
    """Tokens by tenant."""
    tokens: Counter[str] = Counter()
    for item in items:
        tokens[item.job.tenant] += len(item.tokens)
    return tokens


def test_long_inputs_take_no_more_of_the_machine_than_short_ones() -> None:
    def tokens_before_the_end(tenant: str) -> int:
        queue = JobQueue()
        for _ in range(500):
            queue.push(make_job("flood", 100))
        queue.take(BUDGET)
        small = make_job(tenant, *[5] * 20)
        queue.push(small)
        tokens: Counter[str] = Counter()
        while small.taken < len(small.inputs):
            tokens += taken(queue.take(BUDGET))
        return tokens.total()

    # As much again for the other, and the input that was its turn; 2,000 by turns of one input each.
    assert tokens_before_the_end("small") <= 2 * 100 + LONGEST
    # First come, first served: as if both were the same tenant.
    assert tokens_before_the_end("flood") > 49_000


lengths = st.lists(st.integers(1, LONGEST), min_size=1, max_size=8)


@given(st.tuples(*[st.lists(lengths, min_size=1, max_size=20)] * 2), st.integers(1, 2 * BUDGET))
def test_two_backlogged_tenants_never_drift_apart(loads: tuple[list[list[int]], ...], budget: int) -> None:
    queue = JobQueue()
    left = Counter({name: len(jobs) for name, jobs in zip("ab", loads, strict=True)})
    for name, jobs in zip("ab", loads, strict=True):
        for inputs in jobs:
            queue.push(make_job(name, *inputs))
    given: Counter[str] = Counter()
    while items := queue.take(budget):
        assert len(items) == 1 or sum(len(item.tokens) for item in items) <= budget
        for item in items:
            given[item.job.tenant] += len(item.tokens)
            left[item.job.tenant] -= item is last_of(items, item.job)
            if all(left.values()):
                assert abs(given["a"] - given["b"]) <= LONGEST
    assert given == {name: sum(map(sum, jobs)) for name, jobs in zip("ab", loads, strict=True)}


def last_of(items: list[JobInput], job: Job) -> JobInput | None:
    """The last input of a job that ends with these."""
    mine = [item for item in items if item.job is job]
    return mine[-1] if job.taken == len(job.inputs) else None


def test_what_is_computed_again_is_charged_once() -> None:
    queue = JobQueue()
    lost, behind = make_job("a", 40, 40), make_job("a", 40)
    queue.push(lost)
    queue.push(behind)
    assert [item.job for item in queue.take(80)] == [lost, lost]
    other = make_job("b", 70, 70)
    queue.push(other)
    queue.put_back(lost)
    # Level, as who comes is lifted to the lowest who waits. Then b has 70 for the 0 that a has again.
    assert [item.job for item in queue.take(150)] == [lost, lost, behind]
    assert [item.job for item in queue.take(150)] == [other, other]


def test_idle_tenants_save_up_no_credit() -> None:
    queue = JobQueue()
    for _ in range(50):
        queue.push(make_job("busy", 50))
    for _ in range(10):
        queue.take(BUDGET)
    for _ in range(50):
        queue.push(make_job("rested", 50))
    assert taken(queue.take(10 * BUDGET)) == {"busy": 500, "rested": 500}


def test_a_job_taken_out_half_way_leaves_the_others_their_turns() -> None:
    queue = JobQueue()
    gone, kept = make_job("a", 60, 60), make_job("b", 60)
    queue.push(gone)
    queue.push(kept)
    assert [item.job for item in queue.take(60)] == [gone]
    queue.remove(gone)
    queue.remove(gone)
    assert [item.job for item in queue.take(BUDGET)] == [kept]
    assert queue.take(BUDGET) == []
