"""An encoder-decoder's tenants share it by tokens, of every hypothesis; no order changes an answer."""

import asyncio
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine import GenerationRequest, SamplingParams
from farebox_engine.engine import Engine
from farebox_engine.scheduling.fair_queue import INPUT_COST, OUTPUT_COST
from farebox_engine.scheduling.sequence import Sequence
from tests.engine.generating import collect, random_prompts
from tests.engine.seq2seq.conftest import StartSeq2Seq
from tests.engine.seq2seq.generating import target
from tests.engine.seq2seq.test_scheduler import HYPOTHESES, Rig, Shape

LONGEST = 12
# Four of these fill the pool.
USUAL = (8, 1, LONGEST)


def service(rig: Rig, tenant: str) -> float:
    """What a tenant was given, in the unit of the counters: weighted tokens, divided by its weight."""
    return sum(
        (INPUT_COST * sequence.prompt_length + OUTPUT_COST * tokens) / sequence.request.weight
        for sequence, tokens in rig.computed.items()
        if sequence.request.tenant == tenant
    )


def backlogged(rig: Rig, tenant: str) -> bool:
    running = {each.sequence for each in rig.scheduler.decodings()}
    return any(each.request.tenant == tenant for each in rig.scheduler.sequences() if each not in running)


def steps_until_token_of(rig: Rig, sequence: Sequence) -> int:
    for steps in itertools.count():
        if rig.computed[sequence]:
            return steps
        rig.step()
    raise AssertionError


lengths = st.tuples(st.integers(1, LONGEST), st.integers(1, 4), st.integers(1, LONGEST))
queues = st.lists(lengths, min_size=10, max_size=30) | st.builds(
    lambda shape, count: [shape] * count, lengths, st.integers(20, 30)
)
weights = st.sampled_from([0.5, 1.0, 2.0])


@settings(max_examples=60, deadline=None)
@given(
    loads=st.tuples(queues, queues),
    shares=st.tuples(weights, weights),
    late=st.integers(0, 60),
    losses=st.sets(st.integers(1, 200), max_size=3),
)
def test_two_backlogged_tenants_never_drift_apart(
    loads: tuple[list[Shape], ...], shares: tuple[float, float], late: int, losses: set[int]
) -> None:
    """Theorem 4.4 of the paper, with beams of many sizes, and caches lost on the way."""
    rig = Rig()
    # All that one tenant can be given between two moments at which it is its turn, per unit of weight.
    bound = (INPUT_COST * LONGEST + OUTPUT_COST * HYPOTHESES * LONGEST) / min(shares)
    differences: list[float] = []
    for shape in loads[0]:
        rig.add(shape, "early", shares[0])
    step = 0
    while not rig.scheduler.idle or step <= late:
        if step == late:
            for shape in loads[1]:
                rig.add(shape, "late", shares[1])
        if step in losses:
            rig.lose_cache()
        if backlogged(rig, "early") and backlogged(rig, "late"):
            differences.append(service(rig, "early") - service(rig, "late"))
            assert max(differences) - min(differences) <= 2 * bound
        else:
            differences.clear()
        rig.step()
        step += 1
    assert len(rig.computed) == sum(map(len, loads))


def test_five_hundred_queued_requests_delay_another_tenant_by_no_more_than_its_share() -> None:
    def first_token_after_a_flood(tenant: str) -> int:
        rig = Rig()
        for _ in range(500):
            rig.add(USUAL, "flood")
        for _ in range(20):
            rig.step()
        return steps_until_token_of(rig, rig.add(USUAL, tenant))

    alone = Rig()
    undisturbed = steps_until_token_of(alone, alone.add(USUAL, "small"))
    # The first place that one of the flood's requests of 12 tokens leaves is its.
    assert first_token_after_a_flood("small") <= undisturbed + LONGEST
    # First come, first served: as if both were the same tenant.
    assert first_token_after_a_flood("flood") > 1000


def test_every_hypothesis_counts() -> None:
    rig = Rig()
    for _ in range(100):
        rig.add((8, 3, LONGEST), "searching")
        rig.add(USUAL, "greedy")
    for _ in range(300):
        rig.step()
    given = {tenant: service(rig, tenant) for tenant in ("searching", "greedy")}
    assert 0.9 < given["searching"] / given["greedy"] < 1.1
    requests = Counter(sequence.request.tenant for sequence in rig.computed)
    # A search costs 8 + 2 * 36 by the counters, an answer without one 8 + 2 * 12.
    assert 2.2 < requests["greedy"] / requests["searching"] < 2.8


def test_weights_divide_the_machine() -> None:
    rig = Rig()
    for _ in range(200):
        rig.add(USUAL, "heavy", weight=3.0)
        rig.add(USUAL, "light")
    for _ in range(300):
        rig.step()
    tokens = Counter({tenant: service(rig, tenant) for tenant in ("heavy", "light")})
    assert 0.9 < tokens["heavy"] / tokens["light"] < 1.1, "each per unit of weight"


def test_what_the_cache_lost_is_next_of_its_tenant_and_charged_once() -> None:
    rig = Rig()
    # A step encodes 20 tokens: one of these sources, and 4 more.
    first, second = rig.add((16, 1, 4), "a"), rig.add((16, 1, 4), "a")
    rig.step()
    rig.lose_cache()
    assert (rig.scheduler.running, rig.scheduler.waiting) == (0, 2)
    # Level with a, which is first as long as nothing is charged again: neither its source nor its token.
    other = rig.add((4, 1, 4), "b")
    rig.step()
    assert [each.sequence for each in rig.scheduler.decodings()] == [first]
    rig.step()
    assert [each.sequence for each in rig.scheduler.decodings()] == [first, second, other]


def test_priorities_are_admitted_in_their_order_and_take_nothing_from_what_runs() -> None:
    rig = Rig()
    batch = [rig.add(USUAL, "batch", priority=-1) for _ in range(8)]
    rig.step()
    running = [each.sequence for each in rig.scheduler.decodings()]
    usual = [rig.add(USUAL, "user") for _ in range(2)]
    urgent = rig.add(USUAL, "user", priority=1)
    while not rig.scheduler.idle:
        rig.step()
    assert running == batch[: len(running)]
    # In the order of their first tokens.
    assert list(rig.computed) == [*running, urgent, *usual, *batch[len(running) :]]
    assert all(tokens == LONGEST for tokens in rig.computed.values())


async def test_no_order_of_service_changes_an_answer(marian: Path, start_seq2seq: StartSeq2Seq) -> None:
    engine = start_seq2seq(marian, max_running=4)
    sources = random_prompts(61, (4, 30, 9, 17, 25, 6, 12, 21))
    choices: list[dict[str, Any]] = [
        {"num_beams": 1 + number % 3} if number % 4 else {"temperature": 1.0, "seed": number}
        for number in range(len(sources))
    ]
    alone = [
        (await target(engine, source, **params)).tokens
        for source, params in zip(sources, choices, strict=True)
    ]
    for tenants, priorities in (("a", (0,)), ("abc", (0,)), ("ab", (-1, 0, 1))):
        who = zip(itertools.cycle(tenants), itertools.cycle(priorities))
        together = await asyncio.gather(
            *(
                submit(engine, source, params, tenant, priority)
                for source, params, (tenant, priority) in zip(sources, choices, who, strict=False)
            )
        )
        assert together == alone


async def submit(
    engine: Engine, source: list[int], params: dict[str, Any], tenant: str, priority: int
) -> list[int]:
    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 16, "num_beams": 1} | params)
    request = GenerationRequest("request", source, sampling, tenant=tenant, priority=priority)
    return (await collect(engine.generate(request))).tokens
