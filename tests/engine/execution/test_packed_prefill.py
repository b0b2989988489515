"""Prompts in one attention call beside prompts one by one, and when the one call is made."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from transformers import PreTrainedModel

from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.decoders.assembly import Layout
from farebox_engine.execution.kv_cache import KVCache, KVShape
from farebox_engine.execution.packed_prefill import pack_spans
from farebox_engine.execution.paged_attention import PagedAttention
from farebox_engine.execution.runner import ModelRunner
from farebox_engine.kernels import plain
from farebox_engine.kernels.varlen import PackedAttention, UnusableAttentionError, causal, try_out
from farebox_engine.layers.attention import CAUSAL, AttentionRule
from farebox_engine.models.registry import CausalLM
from farebox_engine.scheduling.sequence import Span
from tests.engine.conftest import StartEngine
from tests.engine.generating import answers, greedy, random_prompts
from tests.engine.sequences import make_sequence

CPU = torch.device("cpu")
BLOCK = 4
# Start and length: decoding, whole prompts, chunks of longer ones, the rest after a prefix of full blocks.
MIXED = [(9, 1), (0, 1), (0, 5), (0, 17), (4, 8), (7, 2), (16, 13)]
FRESH = [(0, 2), (0, 9), (0, 4)]


class Counted:
    """Packed attention in plain torch, and the numbers of spans that it was called for."""

    def __init__(self) -> None:
        self.spans: list[int] = []
        self._attention = causal(plain.varlen_attn)

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, *rest: Any, **options: Any
    ) -> Tensor:
        self.spans.append(len(cu_seq_q) - 1)
        return self._attention(query, key, value, cu_seq_q, *rest, **options)


def make_spans(places: list[tuple[int, int]]) -> list[Span]:
    """Spans of sequences whose blocks are scattered over a pool of 64."""
    free = iter(torch.randperm(64, generator=torch.Generator().manual_seed(1)).tolist())
    spans = []
    for start, length in places:
        sequence = make_sequence([1] * (start + length))
        sequence.blocks = [next(free) for _ in range(-(-(start + length) // BLOCK))]
        spans.append(Span(sequence, start, length))
    return spans


def attend(
    spans: list[Span], packed: PackedAttention | None, rule: AttentionRule = CAUSAL, kv_heads: int = 2
) -> Tensor:
    """Attention of a step from random queries, keys, values and cache."""
    config = DecoderConfig(
        vocab_size=2,
        hidden_size=64,
        intermediate_size=2,
        num_layers=1,
        num_heads=4,
        num_kv_heads=kv_heads,
        head_dim=16,
    )
    cache = KVCache(
        KVShape.of_decoder(config), num_blocks=64, block_size=BLOCK, dtype=torch.float32, device=CPU
    )
    generator = torch.Generator().manual_seed(2)
    for states in (cache.keys[0], cache.values[0]):
        states.normal_(generator=generator)
    rows = sum(span.length for span in spans)
    query, key, value = (
        torch.randn(rows, heads, 16, generator=generator) for heads in (4, kv_heads, kv_heads)
    )
    return PagedAttention(cache, spans, packed).attend(0, query, key, value, rule)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("places", [MIXED, FRESH, [(8, 6)]], ids=["mixed", "fresh", "one chunk"])
def test_one_call_computes_what_a_call_for_each_does(places: list[tuple[int, int]], kv_heads: int) -> None:
    packed, spans = Counted(), make_spans(places)
    rule = AttentionRule(scale=0.3)
    found = attend(spans, packed, rule, kv_heads)
    torch.testing.assert_close(found, attend(spans, None, rule, kv_heads))
    assert packed.spans == [sum(length > 1 for _, length in places)]


@pytest.mark.parametrize("rule", [AttentionRule(window=6), AttentionRule(softcap=2.0)])
def test_windows_and_soft_caps_take_a_call_for_each(rule: AttentionRule) -> None:
    packed, spans = Counted(), make_spans(MIXED)
    torch.testing.assert_close(attend(spans, packed, rule), attend(spans, None, rule))
    assert packed.spans == []


def test_a_window_that_nothing_reaches_past_is_none() -> None:
    packed, spans = Counted(), make_spans(MIXED)
    found = attend(spans, packed, AttentionRule(window=29))
    torch.testing.assert_close(found, attend(spans, None))
    assert packed.spans == [5]


def test_packs_are_bounded_and_hold_neighbours_only() -> None:
    spans = make_spans([(0, 6), (4, 6), (0, 4), (0, 30), (2, 5)])
    rows = [slice(0, 6), slice(6, 12), slice(12, 16), slice(16, 46), slice(50, 55)]
    packs = pack_spans(list(zip(rows, spans, strict=True)), BLOCK, CPU, Counted(), most_keys=20)
    assert [pack.rows for pack in packs] == [slice(0, 16), slice(16, 46), slice(50, 55)]
    assert packs[0].cu_seq_q.tolist() == [0, 6, 12, 16]
    assert packs[0].cu_seq_k.tolist() == [0, 6, 16, 20]
    assert [(pack.max_q, pack.max_k) for pack in packs] == [(6, 10), (30, 30), (5, 7)]
    # Whole prompts need no gathered keys.
    assert [pack.slots is None for pack in packs] == [False, True, False]


async def test_an_engine_answers_alike_in_chunks_and_after_prefix_hits(
    start_engine: StartEngine, reference: PreTrainedModel
) -> None:
    packed = Counted()

    def build(model: CausalLM, cache: KVCache, *, capacity: int, max_blocks: int) -> ModelRunner:
        return ModelRunner(model, cache, packed)

    engine = start_engine(layout=Layout(build_runner=build), step_tokens=40)
    prompts = random_prompts(5, (3, 17, 40, 71))
    expected = [greedy(reference, prompt) for prompt in prompts]
    for _ in range(2):
        assert [found.tokens for found in await answers(engine, prompts)] == expected
    assert max(packed.spans) > 1
    (again,) = await answers(engine, prompts[-1:])
    assert again.usage.cached_tokens == 64


def in_torch_2_11(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    return_aux: None = None,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """The signature of that version, which shares key heads unasked."""
    return plain.varlen_attn(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k,
        scale=scale, window_size=window_size, enable_gqa=True,
    )  # fmt: skip


@pytest.mark.parametrize("function", [plain.varlen_attn, in_torch_2_11])
def test_attention_that_computes_a_small_case_right_is_used(function: Callable[..., Tensor]) -> None:
    spans = make_spans(MIXED)
    packed = try_out(function, 16, torch.bfloat16, CPU)
    torch.testing.assert_close(attend(spans, packed), attend(spans, None))


def aligned_to_the_top(*arguments: Any, window_size: tuple[int, int], **options: Any) -> Tensor:
    """As if the first query stood at the first key."""
    query, key, value, cu_seq_q, _, *rest = arguments
    return plain.varlen_attn(
        query,
        key[:5],
        value[:5],
        cu_seq_q,
        cu_seq_q,
        *rest,
        window_size=window_size,
        enable_gqa=True,
        **options,
    )


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (aligned_to_the_top, "off by up to"),
        (lambda *_, window_size, scale: torch.full((5, 4, 16), torch.nan), "off by up to nan"),
        (lambda *_, is_causal=False: torch.zeros(5, 4, 16), "unexpected keyword"),
        # torch has no such kernel for a CPU.
        (varlen_attn, "_flash_attention_forward"),
    ],
    ids=["misaligned", "nan", "older", "no kernel"],
)
def test_attention_that_fails_or_errs_is_not_used(function: Callable[..., Tensor], reason: str) -> None:
    with pytest.raises(UnusableAttentionError, match=reason):
        try_out(function, 16, torch.float32, CPU)


def test_the_installed_torch_takes_the_arguments() -> None:
    """Without a GPU only shapes can be computed."""
    query, key, value = (
        torch.empty(rows, heads, 16, device="meta") for rows, heads in ((5, 4), (9, 2), (9, 2))
    )
    starts = torch.empty(3, dtype=torch.int32, device="meta")
    assert causal(varlen_attn)(query, key, value, starts, starts, 3, 6, scale=0.3).shape == query.shape


def test_the_reference_knows_windows_as_torch_documents_them() -> None:
    generator = torch.Generator().manual_seed(4)
    query, key, value = (torch.randn(6, 2, 8, generator=generator) for _ in range(3))
    starts = torch.tensor([0, 6], dtype=torch.int32)
    distance = torch.arange(6)[:, None] - torch.arange(6)
    for window, seen in {(-1, -1): distance > -9, (2, 0): (distance >= 0) & (distance <= 2)}.items():
        found = plain.varlen_attn(query, key, value, starts, starts, 6, 6, window_size=window)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1), attn_mask=seen
        )
        torch.testing.assert_close(found, expected.transpose(0, 1))
