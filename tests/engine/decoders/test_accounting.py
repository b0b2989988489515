"""Device seconds: every one is somebody's, and nobody pays for work that was done twice or for nothing."""

import asyncio
import random
from collections.abc import Sequence as Seq
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farebox_engine import Generation, load_model
from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.decoders.accounting import CostModel, DeviceLedger
from farebox_engine.scheduling.sequence import Span
from tests.engine.generating import Answer, begin, collect, random_prompts
from tests.engine.saboteur import BAD, POISON, Hang, sabotaged_engine
from tests.engine.sequences import make_sequence


@pytest.fixture(scope="module")
def config(checkpoint: Path) -> DecoderConfig:
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32).config


@pytest.fixture(scope="module")
def model(config: DecoderConfig) -> CostModel:
    """What the tiny model costs, had it a million parameters."""
    return CostModel.of(config, weight_bytes=4_000_000, parameters=1_000_000, item_bytes=4, on_gpu=False)


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
    assert charged + stats.operator_seconds == pytest.approx(stats.busy_seconds, rel=1e-3)


spans = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(1, 512), st.integers(0, 5000), st.integers(0, 600)),
    min_size=1,
    max_size=20,
)


@given(shapes=spans, seconds=st.floats(1e-6, 10))
def test_a_steps_shares_sum_to_the_step(
    model: CostModel, shapes: Seq[tuple[int, int, int, int]], seconds: float
) -> None:
    ledger = DeviceLedger(model)
    step, discarded = [], {}
    for start, length, furthest, thrown_away in shapes:
        sequence = make_sequence([0])
        sequence.furthest = furthest
        step.append(Span(sequence, start, length))
        discarded[sequence] = thrown_away
    ledger.charge(step, seconds, discarded)
    charged = [span.sequence.device_seconds for span in step]
    assert min(charged) >= 0
    assert sum(charged) + ledger.operator_seconds == pytest.approx(seconds)
    assert ledger.busy_seconds == seconds
    for span, (start, length, furthest, thrown_away), cost in zip(step, shapes, charged, strict=True):
        if furthest >= start + length or thrown_away >= length:
            assert cost == 0
        elif furthest <= start and not thrown_away:
            assert cost > 0, span


def test_a_prompt_pays_for_its_operations_and_decoding_for_the_bytes_it_reads(
    config: DecoderConfig, model: CostModel
) -> None:
    prompt, short, long = (make_sequence([0]) for _ in range(3))
    DeviceLedger(model).charge([Span(prompt, 0, 100), Span(short, 100, 1), Span(long, 4000, 1)], 3.0)
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
        assert sequence.device_seconds == pytest.approx(3.0 * cost / sum(costs.values()))


def test_repeated_work_is_the_operators(model: CostModel) -> None:
    ledger, sequence = DeviceLedger(model), make_sequence([0] * 100)
    ledger.charge([Span(sequence, 0, 100)], 1.0)
    sequence.furthest = 100
    ledger.charge([Span(sequence, 0, 100)], 1.0)
    ledger.write_off(0.5)
    assert (sequence.device_seconds, ledger.operator_seconds, ledger.busy_seconds) == (1.0, 1.5, 2.5)


def test_refused_speculation_is_the_operators(model: CostModel) -> None:
    ledger, sequence = DeviceLedger(model), make_sequence([0] * 100)
    shares = ledger.charge([Span(sequence, 99, 4, drafts=(1, 2, 3))], 1.0)
    assert shares == {sequence: pytest.approx(0.25)}
    assert sequence.device_seconds == pytest.approx(0.25)
    ledger.accept(sequence, shares[sequence])
    ledger.refuse(2, 2 * shares[sequence])
    assert sequence.device_seconds == pytest.approx(0.5)
    assert ledger.operator_seconds == pytest.approx(0.5)
    assert ledger.discarded_tokens == 2


def test_a_step_without_a_number_is_the_operators_with_its_drafts(model: CostModel) -> None:
    ledger, sequence = DeviceLedger(model), make_sequence([0] * 100)
    assert ledger.charge([Span(sequence, 99, 4, drafts=(1, 2, 3))], 1.0, {sequence: 4}) == {}
    assert (sequence.device_seconds, ledger.operator_seconds) == (0, 1.0)
    assert ledger.discarded_tokens == 4
