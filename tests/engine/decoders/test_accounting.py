"""Device seconds: every one is somebody's, and nobody pays for work that was done twice or for nothing."""

import asyncio
import random
from collections.abc import Sequence as Seq
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine import Generation, load_model
from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.decoders.accounting import DecoderAccounting, DecoderCost
from farebox_engine.scheduling.sequence import Span
from farebox_engine.serving.device_ledger import DeviceLedger
from tests.engine.generating import Answer, begin, collect, random_prompts
from tests.engine.saboteur import BAD, POISON, Hang, sabotaged_engine
from tests.engine.sequences import make_sequence


@pytest.fixture(scope="module")
def config(checkpoint: Path) -> DecoderConfig:
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32).config


@pytest.fixture(scope="module")
def model(config: DecoderConfig) -> DecoderCost:
    """What the tiny model costs, had it a million parameters."""
    return DecoderCost.of(config, weight_bytes=4_000_000, parameters=1_000_000, item_bytes=4, on_gpu=False)


async def leave_early(generation: Generation) -> Answer:
    """Cancel after the first chunk."""
    chunk = await anext(generation)
    generation.cancel()
    rest = await collect(generation) if chunk.finish_reason is None else Answer(())
    return Answer((chunk, *rest.chunks))


async def test_shares_of_a_random_load_sum_to_the_busy_time(checkpoint: Path) -> None:
    """With preemptions, cancellations, failures, shortages of memory, NaN and a hanging step."""

    def misbehave() -> None:
        mishaps.append(len(mishaps))
        if len(mishaps) == 7:
            hang()
        if len(mishaps) % 3 == 0:
            raise torch.OutOfMemoryError("by chance")
        raise RuntimeError("by chance")

    mishaps: list[int] = []
    hang = Hang()
    # 20 blocks of 16 tokens, where 8 sequences of 30 to 110 tokens want to run.
    engine = sabotaged_engine(
        checkpoint, misbehave, kv_cache_bytes=20 * 16 * 768, max_running=8, step_tokens=64, step_timeout=1.0
    )
    engine.start(asyncio.get_running_loop())
    chance = random.Random(7)
    prompts = random_prompts(40, [chance.randrange(20, 80) for _ in range(60)], vocab_size=390)
    tasks = []
    for index, prompt in enumerate(prompts):
        bad = {5: [BAD], 8: [POISON]}.get(index % 10, [])
        generation = begin(engine, prompt + bad, max_tokens=chance.randrange(10, 30), temperature=1.5)
        tasks.append(leave_early(generation) if index % 7 == 3 else collect(generation))
    found = await asyncio.gather(*tasks)
    stats = engine.stats()
    hang.release()
    engine.close()

    reasons = {each.finish_reason for each in found}
    assert reasons == {"length", "cancelled", "error"}
    assert stats.preemptions > 0
    assert stats.failed_steps > 1
    assert stats.restarts == 1
    assert stats.discarded_tokens > 0
    charged = sum(each.usage.device_seconds for each in found)
    assert charged > 0
    assert min(each.usage.device_seconds for each in found) >= 0
    assert charged + stats.operator_seconds == pytest.approx(stats.busy_seconds, abs=1e-8)


spans = st.lists(
    st.tuples(
        st.integers(0, 4000),
        st.integers(1, 512),
        st.integers(0, 5000),
        st.integers(0, 600),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=20,
)


def accounting_by(model: DecoderCost) -> DecoderAccounting:
    return DecoderAccounting(model, DeviceLedger())


@settings(deadline=None)
@given(shapes=spans, busy_ns=st.integers(0, 10**12), accepted=st.integers(0, 8))
def test_a_steps_shares_sum_to_the_step_to_the_nanosecond(
    model: DecoderCost, shapes: Seq[tuple[int, int, int, int, int]], busy_ns: int, accepted: int
) -> None:
    accounting = accounting_by(model)
    step, discarded = [], {}
    for start, length, furthest, thrown_away, drafts in shapes:
        sequence = make_sequence([0])
        sequence.furthest = furthest
        step.append(Span(sequence, start, length + drafts, drafts=(1,) * drafts))
        discarded[sequence] = thrown_away
    draft_ns = accounting.charge(step, busy_ns, discarded)
    for span in step:
        right = min(accepted, len(span.drafts))
        if span.sequence in draft_ns:
            for _ in range(right):
                accounting.accept(span.sequence, draft_ns[span.sequence])
            accounting.refuse(len(span.drafts) - right, draft_ns[span.sequence])
    charged = [span.sequence.device_ns for span in step]
    ledger = accounting.ledger
    assert min(charged) >= 0
    assert sum(charged) + ledger.operator_ns == ledger.busy_ns == busy_ns
    for span, (_, _, furthest, thrown_away, _), cost in zip(step, shapes, charged, strict=True):
        if furthest >= span.stop or thrown_away >= span.length:
            assert cost == min(accepted, len(span.drafts)) * draft_ns.get(span.sequence, 0)
        elif furthest <= span.start and not thrown_away and busy_ns > 10**9:
            assert cost > 0, span


def test_a_prompt_pays_for_its_operations_and_decoding_for_the_bytes_it_reads(
    config: DecoderConfig, model: DecoderCost
) -> None:
    prompt, short, long = (make_sequence([0]) for _ in range(3))
    step = [Span(prompt, 0, 100), Span(short, 100, 1), Span(long, 4000, 1)]
    accounting_by(model).charge(step, 3 * 10**9)
    # In bytes: a third of the weights each; 2 operations per parameter and token, 10 operations a byte.
    weights, parameters = 4_000_000 / 3, 2 * 1_000_000 / 10
    read = 2 * 4 * config.num_layers * config.num_kv_heads * config.head_dim
    attended = 4 * config.num_layers * config.num_heads * config.head_dim / 10
    costs = {
        prompt: weights + 100 * parameters + 100 * read + 5050 * attended,
        short: weights + parameters + 101 * (read + attended),
        long: weights + parameters + 4001 * (read + attended),
    }
    for sequence, cost in costs.items():
        assert sequence.device_ns == pytest.approx(3e9 * cost / sum(costs.values()), abs=1)


def test_repeated_work_is_the_operators(model: DecoderCost) -> None:
    accounting, sequence = accounting_by(model), make_sequence([0] * 100)
    accounting.charge([Span(sequence, 0, 100)], 1000)
    sequence.furthest = 100
    accounting.charge([Span(sequence, 0, 100)], 1000)
    ledger = accounting.ledger
    ledger.write_off(500)
    assert (sequence.device_ns, ledger.operator_ns, ledger.busy_ns) == (1000, 1500, 2500)


def test_refused_speculation_is_the_operators(model: DecoderCost) -> None:
    accounting, sequence = accounting_by(model), make_sequence([0] * 100)
    draft_ns = accounting.charge([Span(sequence, 99, 4, drafts=(1, 2, 3))], 1003)
    assert draft_ns == {sequence: 250}
    # What cannot be split evenly goes with the token that is no guess.
    assert sequence.device_ns == 253
    accounting.accept(sequence, draft_ns[sequence])
    accounting.refuse(2, draft_ns[sequence])
    assert sequence.device_ns == 503
    assert accounting.ledger.operator_ns == 500
    assert accounting.discarded_tokens == 2


def test_a_step_without_a_number_is_the_operators_with_its_drafts(model: DecoderCost) -> None:
    accounting, sequence = accounting_by(model), make_sequence([0] * 100)
    assert accounting.charge([Span(sequence, 99, 4, drafts=(1, 2, 3))], 1000, {sequence: 4}) == {}
    assert (sequence.device_ns, accounting.ledger.operator_ns) == (0, 1000)
    assert accounting.discarded_tokens == 4
