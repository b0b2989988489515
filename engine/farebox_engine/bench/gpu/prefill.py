"""Prompts of many lengths in one step: packed into one attention call beside one call for each."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from farebox_engine.decoders.intake import DecoderIntake
from farebox_engine.execution.kv_cache import KVCache, KVShape
from farebox_engine.execution.paged_attention import PagedAttention
from farebox_engine.kernels.varlen import PackedAttention
from farebox_engine.lora.store import AdapterStore
from farebox_engine.models.loader import LoadedModel
from farebox_engine.params import GenerationRequest
from farebox_engine.scheduling.sequence import Span

_BLOCK = 16
# Start and length of each span: whole prompts, rests of longer ones, and what follows a shared prefix.
MIXED_SPANS = 2 * ((0, 1024), (0, 512), (0, 96), (1024, 1024), (512, 256), (2048, 64), (0, 17), (4000, 20))


@dataclass(frozen=True, slots=True)
class PrefillRow:
    """A step of `spans` spans with `tokens` tokens over `keys` keys; rates in tokens/s.

    `error` is how far attention's results x and y of both ways, from numbers of unit variance,
    are apart at most: |x - y| / (1 + |y|).
    """

    shape: str
    spans: int
    tokens: int
    keys: int
    packed: float
    per_sequence: float
    error: float

    def as_line(self) -> str:
        return (
            f"prefill of {self.shape}: {self.spans} spans, {self.tokens} tokens over {self.keys} keys: "
            f"packed {self.packed:,.0f} tokens/s, one by one {self.per_sequence:,.0f} "
            f"({self.packed / self.per_sequence:.2f}x as fast), off by up to {self.error:.1e}"
        )


class PrefillStep:
    """One step over `spans`, each of a sequence of its own with random tokens, ready to be repeated."""

    def __init__(self, loaded: LoadedModel, spans: Seq[tuple[int, int]]) -> None:
        intake = DecoderIntake(loaded, 1 + max(map(sum, spans)), AdapterStore(loaded))
        generator = torch.Generator().manual_seed(0)
        self._loaded = loaded
        self._spans: list[Span] = []
        num_blocks = sum(-(-sum(span) // _BLOCK) for span in spans)
        # Scattered, as they are in service after a while.
        free = iter(torch.randperm(num_blocks, generator=generator).tolist())
        for start, length in spans:
            shape = (start + length,)
            tokens = torch.randint(loaded.config.vocab_size, shape, generator=generator).tolist()
            sequence = intake.sequence(GenerationRequest("bench", tokens))
            sequence.blocks = list(islice(free, -(-len(tokens) // _BLOCK)))
            self._spans.append(Span(sequence, start, length))
        self._cache = KVCache(
            KVShape.of_decoder(loaded.config),
            num_blocks=num_blocks,
            block_size=_BLOCK,
            dtype=loaded.dtype,
            device=loaded.device,
        )
        ids = [token for span in self._spans for token in span.tokens]
        places = [place for span in self._spans for place in range(span.start, span.stop)]
        self._tokens, self._positions = (torch.tensor(each, device=loaded.device) for each in (ids, places))
        self.tokens = len(ids)
        self.keys = sum(span.stop for span in self._spans)

    @torch.inference_mode()
    def attend(self, packed: PackedAttention | None) -> Tensor:
        """The attention output of the first layer from random queries, keys, values and cache."""
        config, device, dtype = self._loaded.config, self._loaded.device, self._loaded.dtype
        generator = torch.Generator(device).manual_seed(1)
        for states in (self._cache.keys[0], self._cache.values[0]):
            states.normal_(generator=generator)
        query, key, value = (
            torch.randn(self.tokens, heads, config.head_dim, generator=generator, dtype=dtype, device=device)
            for heads in (config.num_heads, config.num_kv_heads, config.num_kv_heads)
        )
        return PagedAttention(self._cache, self._spans, packed).attend(0, query, key, value)

    @torch.inference_mode()
    def run(self, packed: PackedAttention | None) -> float:
        """Compute the step; the seconds it took, the preparation of its attention included."""
        started = time.perf_counter()
        attention = PagedAttention(self._cache, self._spans, packed)
        self._loaded.model(self._tokens, self._positions, attention)
        if self._loaded.device.type == "cuda":
            torch.cuda.synchronize(self._loaded.device)
        return time.perf_counter() - started


def measure_prefill(
    name: str, loaded: LoadedModel, packed: PackedAttention, spans: Seq[tuple[int, int]], seconds: float
) -> PrefillRow:
    """Check and time one step in both ways in turn, each at its best of about `seconds` in all."""
    step = PrefillStep(loaded, spans)
    found, expected = step.attend(packed).float(), step.attend(None).float()
    error = float(((found - expected).abs() / (1 + expected.abs())).max())
    ways = (packed, None)
    for way in ways:
        step.run(way)
    best = [float("inf")] * len(ways)
    until = time.perf_counter() + seconds
    while best[0] == float("inf") or time.perf_counter() < until:
        best = [min(taken, step.run(way)) for taken, way in zip(best, ways, strict=True)]
    rates = [step.tokens / taken for taken in best]
    return PrefillRow(name, len(spans), step.tokens, step.keys, rates[0], rates[1], error)
