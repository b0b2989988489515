"""Decoding one step ahead in captured steps, on a CPU: steps run eagerly, kernels are plain torch.

Prompts are computed by packed attention in plain torch, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from farebox_engine.decoders.assembly import Layout
from farebox_engine.execution.decode_graph import Work, buckets
from farebox_engine.execution.device_batch import LENGTH, POSITION, SLOT, SOURCE, DecodeRow, DeviceBatch
from farebox_engine.execution.device_runner import DeviceRunner
from farebox_engine.execution.device_sampler import Mode, choose
from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.kernels import plain
from farebox_engine.kernels.varlen import causal
from farebox_engine.models.registry import CausalLM
from farebox_engine.sampling.sampler import sample
from tests.engine.checkpoints import FAMILIES, build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.generating import answer, answers, begin, collect, greedy, load_reference, random_prompts
from tests.engine.lora.adapters import build_adapter, merged
from tests.engine.saboteur import BAD, Hang, sabotaged_engine
from tests.engine.sequences import make_sequence


class EagerCapture:
    """Runs captured work at once, and counts what was captured and how often it ran."""

    def __init__(self) -> None:
        self.captured = 0
        self.runs = 0

    def __call__(self, work: Work) -> Work:
        self.captured += 1
        # As a capture does: twice to warm up, when no result may be lost.
        work()
        work()

        def replay() -> None:
            self.runs += 1
            work()

        return replay


@pytest.fixture
def capture() -> EagerCapture:
    return EagerCapture()


@pytest.fixture
def ahead(capture: EagerCapture) -> Layout:
    """Engines laid out so compute prompts packed, and decode by a `DeviceRunner`."""

    def build(model: CausalLM, cache: KVCache, *, capacity: int, max_blocks: int) -> DeviceRunner:
        return DeviceRunner(
            model,
            cache,
            capacity=capacity,
            max_blocks=max_blocks,
            kernels=plain,
            splits=lambda bucket: 1,
            capture=capture,
            packed=causal(plain.varlen_attn),
        )

    return Layout(build_runner=build)


async def test_greedy_answers_are_those_of_transformers(
    capture: EagerCapture, ahead: Layout, start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    engine = start_engine(layout=ahead, max_running=8)
    prompts = random_prompts(1, [3, 15, 16, 17, 31, 32, 40])
    found = await answers(engine, prompts, max_tokens=20)
    assert [one.tokens for one in found] == [greedy(reference, prompt, 20) for prompt in prompts]
    # Every token but the first of each answer came from a captured step.
    assert capture.runs >= 19
    assert engine.stats().steps <= capture.runs + 8


@pytest.mark.parametrize("family", ["gemma2", "mistral", "qwen3", "gpt2", "mixtral"])
async def test_other_families_too(
    capture: EagerCapture, ahead: Layout, start_engine: StartEngine, tmp_path: Path, family: str
) -> None:
    path = build_checkpoint(tmp_path / family, **FAMILIES[family])
    prompts = random_prompts(2, [5, 30])
    found = await answers(start_engine(path, ahead), prompts, max_tokens=8)
    model = load_reference(path)
    assert [one.tokens for one in found] == [greedy(model, prompt, 8) for prompt in prompts]
    assert capture.runs >= 7


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_k": 5},
    {"temperature": 1.3, "top_p": 0.6},
    {"temperature": 2.0, "min_p": 0.05},
    {"temperature": 1.0, "top_p": 0.9999},
    {"temperature": 0.0},
    {"temperature": 0.9, "frequency_penalty": 0.5},
    {"temperature": 0.9, "logprobs": 2},
    {"temperature": 0.9, "bad_words": tuple((token,) for token in range(200))},
    {"temperature": 0.9, "bad_words": tuple((token, other) for token in range(16) for other in range(16))},
    {"temperature": 0.9, "min_tokens": 12, "stop_token_ids": tuple(range(200))},
]


async def test_seeded_answers_are_those_of_the_other_runner(
    capture: EagerCapture, ahead: Layout, start_engine: StartEngine
) -> None:
    prompts = random_prompts(3, [9] * len(SETTINGS))

    async def run(layout: Layout | None = None) -> list[list[int]]:
        engine = start_engine(layout=layout)
        generations = [
            begin(engine, prompt, seed=11 + row, **settings)
            for row, (prompt, settings) in enumerate(zip(prompts, SETTINGS, strict=True))
        ]
        return [(await collect(generation)).tokens for generation in generations]

    expected = await run()
    assert capture.runs == 0
    assert await run(ahead) == expected
    assert capture.runs > 0


async def test_arrivals_departures_and_preemptions_change_nothing(
    capture: EagerCapture, ahead: Layout, start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    """A pool so small that sequences push each other out, and others leave in the middle."""
    engine = start_engine(
        layout=ahead, kv_cache_bytes=3 * 2 * 2 * 16 * 4 * 16 * 20, context_length=128, step_tokens=24
    )
    prompts = random_prompts(4, [40, 50, 60, 33, 47])
    leaving = [begin(engine, prompt, max_tokens=60) for prompt in random_prompts(5, [20, 30])]
    staying = [begin(engine, prompt, max_tokens=40) for prompt in prompts]
    for generation in leaving:
        async for _ in generation:
            generation.cancel()
    found = [(await collect(generation)).tokens for generation in staying]
    assert found == [greedy(reference, prompt, 40) for prompt in prompts]
    assert engine.stats().preemptions > 0
    assert capture.runs > 0


async def test_an_answer_may_fill_the_context(
    capture: EagerCapture, ahead: Layout, start_engine: StartEngine
) -> None:
    engine = start_engine(layout=ahead, context_length=64, kv_cache_bytes=3 * 2 * 2 * 16 * 4 * 64)
    found = await answer(engine, random_prompts(6, [30])[0], max_tokens=34)
    assert found.usage.completion_tokens == 34
    assert capture.runs >= 30


@pytest.mark.parametrize("max_tokens", [0, 1])
async def test_a_prompt_may_fill_the_context(
    capture: EagerCapture, ahead: Layout, start_engine: StartEngine, max_tokens: int
) -> None:
    """There is no block left to compute ahead in, nor need of one."""
    engine = start_engine(layout=ahead, context_length=64, kv_cache_bytes=3 * 2 * 2 * 16 * 4 * 64)
    prompt = random_prompts(8, [64 - max_tokens])[0]
    found = await answer(engine, prompt, max_tokens=max_tokens, prompt_logprobs=0)
    assert len(found.tokens) == max_tokens
    details = found.chunks[0].prompt
    assert details is not None
    assert details.logprobs is not None
    assert [entry.token_id for entry in details.logprobs if entry] == prompt[1:]
    assert capture.runs == 0


async def test_adapters_are_left_to_the_host_and_others_are_not(
    capture: EagerCapture,
    ahead: Layout,
    start_engine: StartEngine,
    checkpoint: Path,
    reference: PreTrainedModel,
    tmp_path: Path,
) -> None:
    adapter = build_adapter(tmp_path / "adapter", checkpoint, ["q_proj", "down_proj"], seed=3)
    engine = start_engine(layout=ahead)
    engine.load_adapter("a", adapter)
    requests = [(prompt, name) for prompt in random_prompts(9, [9, 26]) for name in (None, "a")]
    models = {None: reference, "a": merged(checkpoint, adapter)}
    crowd = [begin(engine, prompt, adapter=name) for prompt, name in requests]
    found = [(await collect(generation)).tokens for generation in crowd]
    assert found == [greedy(models[name], prompt, 16) for prompt, name in requests]
    assert found[0] != found[1]
    assert capture.runs >= 15


async def test_a_new_cache_after_a_hang_gets_a_runner_of_the_same_kind(
    capture: EagerCapture, ahead: Layout, checkpoint: Path, reference: PreTrainedModel
) -> None:
    hang = Hang()
    engine = sabotaged_engine(checkpoint, hang, layout=ahead, step_timeout=1.0)
    engine.start(asyncio.get_running_loop())
    try:
        assert (await answer(engine, [BAD])).finish_reason == "error"
        hang.release()
        before = capture.runs
        prompt = random_prompts(10, [21])[0]
        assert (await answer(engine, prompt)).tokens == greedy(reference, prompt, 16)
        assert capture.runs >= before + 15
        assert engine.stats().restarts == 1
    finally:
        hang.release()
        engine.close()


async def test_stop_tokens_end_an_answer_that_was_computed_ahead(
    ahead: Layout, start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    prompt = random_prompts(7, [25])[0]
    tokens = greedy(reference, prompt, 12)
    end = tokens.index(tokens[6])
    engine = start_engine(layout=ahead)
    found = await answer(engine, prompt, max_tokens=12, stop_token_ids=(tokens[6],))
    assert found.tokens == tokens[: end + 1]
    # The blocks it left are whole: the same prompt, now from the cache, is answered alike.
    assert (await answer(engine, prompt, max_tokens=12)).tokens == tokens


def test_buckets_hold_every_batch_and_waste_little() -> None:
    for capacity in (1, 3, 8, 64, 200, 256):
        sizes = buckets(capacity)
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == capacity
        for rows in range(1, capacity + 1):
            size = next(size for size in sizes if size >= rows)
            assert size - rows < max(16, rows)


def test_uploads_leave_nothing_of_earlier_steps() -> None:
    batch = DeviceBatch(8, max_blocks=4, block_size=4, device=torch.device("cpu"))
    long, short = make_sequence([1] * 14), make_sequence([1] * 3)
    long.blocks, short.blocks = [5, 6, 7, 9], [2]
    batch.upload([DecodeRow(long, 13, 1, source=3), DecodeRow(short, 2, 1, token=8)], 4)
    assert batch.integers[LENGTH, :4].tolist() == [14, 3, 0, 0]
    assert batch.integers[SLOT, :4].tolist() == [9 * 4 + 1, 2 * 4 + 2, -1, -1]
    assert batch.tables[0].tolist() == [5, 6, 7, 9]
    short.blocks = [3]
    for _ in range(2):
        batch.upload([DecodeRow(short, 3, 2, token=8)], 2)
        assert batch.integers[LENGTH, :2].tolist() == [4, 0]
        assert batch.integers[POSITION, :2].tolist() == [3, 0]
        assert batch.integers[SOURCE, :2].tolist() == [-1, -1]
        assert batch.tables[0, 0] == 3


def _choices() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from ((str(settings), settings) for settings in SETTINGS[:6])


@pytest.mark.parametrize(
    "settings", [settings for _, settings in _choices()], ids=[name for name, _ in _choices()]
)
def test_the_devices_sampler_chooses_as_the_other(settings: dict[str, Any]) -> None:
    logits = 3 * torch.randn(40, 1000, generator=torch.Generator().manual_seed(1))
    sequences = [make_sequence([1, 2], seed=row, generated=[4] * row, **settings) for row in range(40)]
    numbers = _numbers([DecodeRow(seq, 9, seq.completion_length) for seq in sequences])
    tokens, settled = choose(logits.clone(), numbers, Mode.FILTER)
    expected = [sampled.token for sampled in sample(logits.clone(), sequences)]
    agreeing = [token for token, sure in zip(tokens.tolist(), settled.tolist(), strict=True) if sure]
    assert agreeing == [token for token, sure in zip(expected, settled.tolist(), strict=True) if sure]
    # Only a nucleus of nearly everything reaches past the best 256 of 1,000 tokens.
    assert bool(settled.all()) == (settings.get("top_p", 1.0) != 0.9999)


def test_a_logit_that_is_no_number_yields_no_token() -> None:
    logits = torch.zeros(2, 10)
    logits[1, 3] = torch.nan
    numbers = _numbers([DecodeRow(make_sequence([1], temperature=0.0), 1, 0)] * 2)
    for mode in Mode:
        assert choose(logits, numbers, mode)[0].tolist() == [0, -1]


def _numbers(rows: list[DecodeRow]) -> torch.Tensor:
    batch = DeviceBatch(len(rows), max_blocks=1, block_size=16, device=torch.device("cpu"))
    for row in rows:
        row.sequence.blocks = [0]
    batch.upload(rows, len(rows))
    return batch.numbers
