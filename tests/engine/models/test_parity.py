"""The engine against `transformers`: logits, and greedy tokens under every way of computing them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from farebox_engine import Engine, load_model
from farebox_engine.execution.kv_cache import KVCache, KVShape
from farebox_engine.execution.paged_attention import PagedAttention
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.scheduling.sequence import Sequence, Span
from tests.engine.checkpoints import FAMILIES, build_checkpoint
from tests.engine.conftest import StartEngine
from tests.engine.generating import answer, answers, begin, collect, greedy, load_reference, random_prompts
from tests.engine.sequences import make_sequence

LENGTHS = (1, 3, 15, 16, 17, 40, 71)
ROPE = {"rope_theta": 10_000.0, "factor": 4.0}
SHAPES: dict[str, dict[str, Any]] = {
    "grouped-query": {},
    "multi-head": {"num_key_value_heads": 4},
    "multi-query": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "biased": {"attention_bias": True, "mlp_bias": True},
    "wide-heads": {"head_dim": 48},
    "linear": {"rope_parameters": ROPE | {"rope_type": "linear"}},
    "dynamic": {"rope_parameters": ROPE | {"rope_type": "dynamic"}, "max_position_embeddings": 32},
    "yarn": {
        "rope_parameters": ROPE | {"rope_type": "yarn", "original_max_position_embeddings": 32},
        "max_position_embeddings": 128,
    },
    "longrope": {
        "rope_parameters": ROPE
        | {
            "rope_type": "longrope",
            "original_max_position_embeddings": 32,
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 1.8, 1.9],
            "long_factor": [1.5, 1.7, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0],
        },
        "max_position_embeddings": 128,
    },
    "proportional": {"rope_parameters": ROPE | {"rope_type": "proportional", "partial_rotary_factor": 0.5}},
    "llama3": {
        "rope_parameters": ROPE
        | {
            "rope_type": "llama3",
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        "max_position_embeddings": 128,
    },
}


@pytest.fixture(scope="module", params=SHAPES | FAMILIES)
def shaped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = (SHAPES | FAMILIES)[request.param] | {"num_hidden_layers": 2}
    return build_checkpoint(tmp_path_factory.mktemp(request.param), seed=len(request.param), **overrides)


def paged_logits(
    path: Path, prompts: list[list[int]], chunk: int, dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """Logits [length, vocab] of each prompt, computed side by side, `chunk` tokens of each per step."""
    loaded = load_model(path, device=torch.device("cpu"), dtype=dtype)
    cache = KVCache(
        KVShape.of_decoder(loaded.config),
        num_blocks=64,
        block_size=16,
        dtype=dtype,
        device=torch.device("cpu"),
    )
    sequences = [make_sequence(prompt) for prompt in prompts]
    # Scattered, so that no context happens to be one slice.
    blocks = iter(torch.randperm(64, generator=torch.Generator().manual_seed(1)).tolist())
    for sequence in sequences:
        sequence.blocks = [next(blocks) for _ in range(-(-len(sequence.tokens) // 16))]
    parts: dict[Sequence, list[torch.Tensor]] = {sequence: [] for sequence in sequences}
    for start in range(0, max(map(len, prompts)), chunk):
        spans = [
            Span(sequence, start, min(chunk, len(sequence.tokens) - start))
            for sequence in sorted(sequences, key=lambda sequence: -len(sequence.tokens))
            if start < len(sequence.tokens)
        ]
        spans.sort(key=lambda span: span.length > 1)
        tokens = torch.tensor([token for span in spans for token in span.sequence.tokens[start : span.stop]])
        positions = torch.tensor([position for span in spans for position in range(start, span.stop)])
        lengths = torch.tensor([len(span.sequence.tokens) for span in spans for _ in range(span.length)])
        with torch.inference_mode():
            hidden = loaded.model(tokens, positions, PagedAttention(cache, spans), lengths)
            logits = loaded.model.logits(hidden)
        for span, rows in zip(spans, torch.split(logits, [span.length for span in spans]), strict=True):
            parts[span.sequence].append(rows)
    return [torch.cat(parts[sequence]) for sequence in sequences]


@pytest.mark.parametrize("chunk", [1, 7, 128])
def test_logits_agree_with_transformers(shaped: Path, chunk: int) -> None:
    prompts = random_prompts(3, LENGTHS)
    model = load_reference(shaped)
    for prompt, logits in zip(prompts, paged_logits(shaped, prompts, chunk), strict=True):
        with torch.inference_mode():
            expected = model(torch.tensor([prompt])).logits[0]
        error = (logits - expected).abs().max() / expected.abs().max()
        assert error < 1e-4, f"prompt of {len(prompt)} tokens: relative error {error:.2e}"


def test_bfloat16_stays_close(shaped: Path) -> None:
    prompts = random_prompts(3, (40, 9))
    exact = paged_logits(shaped, prompts, 7)
    for logits, expected in zip(paged_logits(shaped, prompts, 7, torch.bfloat16), exact, strict=True):
        assert logits.dtype == torch.float32
        # Seven bits of mantissa, at a width of weights that is ten times the usual.
        assert torch.nn.functional.cosine_similarity(logits, expected).mean() > 0.9


def test_attention_in_training_is_the_same(shaped: Path) -> None:
    """Whole sequences, and two documents packed into one, without a cache."""
    model = load_model(shaped, device=torch.device("cpu"), dtype=torch.float32).model
    first, second = random_prompts(3, (40, 40))
    expected = paged_logits(shaped, [first, second], 128)
    tokens, positions = torch.tensor([*first, *second]), torch.arange(40).repeat(2)
    packed = CausalAttention(80, torch.arange(2).repeat_interleave(40))
    with torch.inference_mode():
        for attention in (CausalAttention(40), packed):
            logits = model.logits(model(tokens, positions, attention, torch.full((80,), 40)))
            torch.testing.assert_close(logits, torch.cat(expected), rtol=1e-3, atol=2e-3)


async def test_greedy_tokens_agree_alone_and_in_a_mixed_batch(
    shaped: Path, start_engine: StartEngine
) -> None:
    engine = start_engine(shaped, context_length=96)
    model = load_reference(shaped)
    prompts = random_prompts(4, LENGTHS)
    expected = [greedy(model, prompt) for prompt in prompts]
    assert (await answer(engine, prompts[5], salt=b"alone")).tokens == expected[5]
    assert [found.tokens for found in await answers(engine, prompts)] == expected


@pytest.mark.parametrize("step_tokens", [1, 5, 16, 33, 512])
async def test_chunked_prefill_changes_no_token(
    start_engine: StartEngine, reference: PreTrainedModel, step_tokens: int
) -> None:
    engine = start_engine(step_tokens=step_tokens)
    prompts = random_prompts(5, LENGTHS)
    found = await answers(engine, prompts)
    assert [each.tokens for each in found] == [greedy(reference, prompt) for prompt in prompts]


async def test_requests_that_join_late_and_leave_early_change_no_token(
    start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    engine = start_engine(step_tokens=24, max_running=5)
    early, leaving, late = random_prompts(6, (20, 33, 50))
    first, cancelled = begin(engine, early, max_tokens=60), begin(engine, leaving, max_tokens=200)
    await anext(first)
    joined = begin(engine, late, max_tokens=40)
    await anext(cancelled)
    cancelled.cancel()
    rest, second = await asyncio.gather(collect(first), collect(joined))
    expected = greedy(reference, early, 60)
    assert expected[-len(rest.tokens) :] == rest.tokens
    assert second.tokens == greedy(reference, late, 40)
    assert (await collect(cancelled)).finish_reason == "cancelled"


async def test_prefix_hits_change_no_token(start_engine: StartEngine, reference: PreTrainedModel) -> None:
    engine = start_engine()
    (prompt,) = random_prompts(7, (70,))
    miss = await answer(engine, prompt)
    hit = await answer(engine, prompt)
    longer = [*prompt, *miss.tokens, *prompt[:5]]
    follow_up = await answer(engine, longer)
    assert (miss.usage.cached_tokens, hit.usage.cached_tokens) == (0, 64)
    # The answer's own tokens are cached too: the last of 86 has no keys yet.
    assert follow_up.usage.cached_tokens == 80
    assert hit.tokens == miss.tokens == greedy(reference, prompt)
    assert follow_up.tokens == greedy(reference, longer)


async def test_whole_prompt_in_the_cache_still_yields_a_token(
    start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    engine = start_engine()
    (prompt,) = random_prompts(8, (64,))
    await answer(engine, prompt)
    again = await answer(engine, prompt)
    assert again.usage.cached_tokens == 48
    assert again.tokens == greedy(reference, prompt)


async def test_salts_separate_prefix_caches(start_engine: StartEngine) -> None:
    engine = start_engine()
    (prompt,) = random_prompts(9, (70,))
    await answer(engine, prompt, salt=b"one tenant")
    other = await answer(engine, prompt, salt=b"another")
    same = await answer(engine, prompt, salt=b"one tenant")
    assert (other.usage.cached_tokens, same.usage.cached_tokens) == (0, 64)


async def test_preemption_changes_no_token_and_is_not_charged(
    start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    engine = start_engine(kv_cache_bytes=kv_bytes(blocks=16))
    prompts = random_prompts(10, (30, 40, 50, 60, 20, 45))
    found = await answers(engine, prompts, max_tokens=70)
    stats = engine.stats()
    assert stats.preemptions > 0
    assert stats.operator_seconds > 0
    assert [each.tokens for each in found] == [greedy(reference, prompt, 70) for prompt in prompts]
    assert [each.usage.cached_tokens for each in found] == [0] * len(prompts)
    assert_seconds_add_up(engine, [each.usage.device_seconds for each in found])


async def test_device_seconds_add_up_to_busy_time(start_engine: StartEngine) -> None:
    engine = start_engine(step_tokens=40)
    found = await answers(engine, random_prompts(11, (5, 90, 17, 60, 33)), max_tokens=12)
    seconds = [each.usage.device_seconds for each in found]
    assert all(second > 0 for second in seconds)
    assert seconds[1] > seconds[0], "ninety prompt tokens cost more than five"
    assert_seconds_add_up(engine, seconds)


def kv_bytes(blocks: int) -> int:
    """`kv_cache_bytes` for a number of blocks of the default checkpoint: 3 layers, 2 heads of 16, fp32."""
    return blocks * 16 * (2 * 3 * 2 * 16 * 4)


def assert_seconds_add_up(engine: Engine, seconds: list[float]) -> None:
    stats = engine.stats()
    assert sum(seconds) + stats.operator_seconds == pytest.approx(stats.busy_seconds, rel=1e-6)
