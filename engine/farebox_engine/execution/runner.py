"""One step on the device: from spans to next tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.execution.paged_attention import PagedAttention
from farebox_engine.execution.prompt_scores import score_prompts
from farebox_engine.kernels.varlen import PackedAttention
from farebox_engine.lora.adapter import Adapter
from farebox_engine.lora.batch import Group, adapted
from farebox_engine.models.registry import CausalLM
from farebox_engine.outputs import RawLogprobs
from farebox_engine.sampling.sampler import Sampled, sample
from farebox_engine.scheduling.sequence import Sequence, Span


@dataclass(frozen=True, slots=True)
class StepResult:
    """Spans in the order computed, what was sampled for those that reach their end, and the time taken.

    `prompt_scores` are of the sequences that ask for them: see `score_prompts`. `after_drafts`
    holds what was sampled after each of a span's drafts, given that those before it are right.
    """

    sampled: list[tuple[Span, Sampled | None]]
    busy_ns: int
    prompt_scores: dict[Sequence, list[RawLogprobs]] = field(default_factory=dict)
    after_drafts: dict[Sequence, list[Sampled]] = field(default_factory=dict)


class Runner(Protocol):
    """What the engine's core asks of a runner; see `ModelRunner`."""

    @property
    def lookahead(self) -> int:
        """For how many tokens past those of a step the sequences should hold blocks."""
        ...

    def clear(self, blocks: Seq[int]) -> None: ...

    def run(self, spans: Seq[Span]) -> StepResult: ...

    def outgrown(self, sequences: Seq[Sequence]) -> list[Sequence]: ...


class ModelRunner:
    """Computes spans with a model and its KV cache, prompts in one call of `packed` where it can."""

    lookahead = 0

    def __init__(self, model: CausalLM, cache: KVCache, packed: PackedAttention | None = None) -> None:
        self._cache = cache
        self._packed = packed
        self._model = model
        self._device = cache.keys[0].device

    @torch.inference_mode()
    def clear(self, blocks: Seq[int]) -> None:
        """Zero blocks whose content cannot be trusted."""
        self._cache.clear(blocks)

    @torch.inference_mode()
    def run(self, spans: Seq[Span]) -> StepResult:
        """Compute `spans`; the blocks that they need must be in their sequences' tables."""
        started = time.perf_counter_ns()
        # Decoding sequences first and by length: attention takes them in groups of similar length.
        spans = sorted(spans, key=lambda span: (span.length > 1, -span.stop))
        with adapted(self._groups(spans)):
            hidden = self._model(
                self._tensor([token for span in spans for token in span.tokens]),
                self._tensor([position for span in spans for position in range(span.start, span.stop)]),
                PagedAttention(self._cache, spans, self._packed),
                self._lengths(spans),
            )
        scores = score_prompts(self._model, hidden, spans)
        sampled: list[Sampled | None] = [None] * len(spans)
        after_drafts: dict[Sequence, list[Sampled]] = {}
        sampling = [(index, span) for index, span in enumerate(spans) if span.samples]
        if sampling:
            logits = self._model.logits(hidden[self._last_rows(spans)])
            results = iter(sample(logits, [row for _, span in sampling for row in span.sampled_for]))
            for index, span in sampling:
                sampled[index] = next(results)
                if span.drafts:
                    after_drafts[span.sequence] = list(islice(results, len(span.drafts)))
        elif self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        # Reading the sampled tokens waits for the device, so that this is its time, not the launches'.
        busy_ns = time.perf_counter_ns() - started
        return StepResult(list(zip(spans, sampled, strict=True)), busy_ns, scores, after_drafts)

    def outgrown(self, sequences: Seq[Sequence]) -> list[Sequence]:
        """Those that have grown past the length for which their keys were rotated."""
        limit = self._model.outgrown_at
        if limit is None:
            return []
        return [
            each
            for each in sequences
            if max(each.prompt_length, each.rotated_for) <= limit < len(each.tokens)
        ]

    def _groups(self, spans: Seq[Span]) -> list[Group]:
        """The rows of each adapter that the spans have."""
        rows: dict[Adapter | None, list[int]] = {}
        start = 0
        for span in spans:
            rows.setdefault(span.sequence.adapter, []).extend(range(start, start + span.length))
            start += span.length
        return [
            Group(adapter.matrices, None if len(rows) == 1 else self._tensor(its_rows))
            for adapter, its_rows in rows.items()
            if adapter is not None
        ]

    def _last_rows(self, spans: Seq[Span]) -> Tensor:
        rows: list[int] = []
        row = -1
        for span in spans:
            row += span.length
            if span.samples:
                rows.extend(range(row - len(span.drafts), row + 1))
        return self._tensor(rows)

    def _lengths(self, spans: Seq[Span]) -> Tensor | None:
        if not self._model.lengths_matter:
            return None
        return self._tensor(
            [
                max(position + 1, span.sequence.prompt_length, span.sequence.rotated_for)
                for span in spans
                for position in range(span.start, span.stop)
            ]
        )

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
