"""Decoding on a GPU one step ahead: the next step is under way before this one's tokens are read."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.execution.decode_graph import Capture, DecodeGraphs, DecodeKernels
from farebox_engine.execution.device_batch import DecodeRow, DeviceBatch
from farebox_engine.execution.device_sampler import least_mode, runs_on_device
from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.execution.runner import ModelRunner, StepResult
from farebox_engine.kernels.varlen import PackedAttention
from farebox_engine.models.registry import CausalLM
from farebox_engine.sampling.sampler import Sampled
from farebox_engine.scheduling.sequence import Sequence, Span


@dataclass(frozen=True, slots=True)
class _Flight:
    """A step under way: which row computes which token, and where its tokens will be read."""

    rows: dict[Sequence, tuple[int, int]]
    chosen: Tensor
    landed: torch.cuda.Event | None

    def row(self, span: Span) -> int | None:
        """The row that computes exactly this span."""
        row, position = self.rows.get(span.sequence, (-1, -1))
        return row if span.length == 1 and position == span.start else None

    def read(self) -> list[list[int]]:
        """Wait for the step; the tokens, and 1 where they are settled."""
        if self.landed is not None:
            self.landed.synchronize()
        read: list[list[int]] = self.chosen.tolist()
        return read


class DeviceRunner:
    """Computes spans like `ModelRunner`, decoding in captured graphs and one step ahead.

    After each step, every sequence that goes on gets its next token computed at once: its
    input never leaves the device. By the time the scheduler asks for these spans, they are
    under way or done. A sequence that has ended meanwhile costs its row of one step; what
    that wrote lies in a block of its own and is overwritten, in order, by the next holder.
    Prompts, drafts, and sequences that need the host (for an adapter, or to sample with
    penalties, a grammar or log-probabilities) go to the `ModelRunner`.
    """

    lookahead = 1

    def __init__(
        self,
        model: CausalLM,
        cache: KVCache,
        *,
        capacity: int,
        max_blocks: int,
        kernels: DecodeKernels,
        splits: Callable[[int], int],
        capture: Capture,
        packed: PackedAttention | None = None,
    ) -> None:
        device = cache.keys[0].device
        self._host = ModelRunner(model, cache, packed)
        self._block_size = cache.block_size
        self._max_blocks = max_blocks
        self._batch = DeviceBatch(capacity, max_blocks, cache.block_size, device)
        self._graphs = DecodeGraphs(model, cache, self._batch, kernels, splits, capture)
        self._on_cuda = device.type == "cuda"
        # Two, in turn: one step's tokens are read after the next step's have been sent for.
        self._landing = [
            torch.zeros((2, capacity), dtype=torch.int64, pin_memory=self._on_cuda) for _ in range(2)
        ]
        self._turn = 0
        self._flight: _Flight | None = None

    def clear(self, blocks: Seq[int]) -> None:
        """Zero blocks whose content cannot be trusted."""
        self._host.clear(blocks)

    @torch.inference_mode()
    def run(self, spans: Seq[Span]) -> StepResult:
        """See `ModelRunner.run`."""
        started = time.perf_counter_ns()
        flight, self._flight = self._flight, None
        flying = {span: row for span in spans if flight and (row := flight.row(span)) is not None}
        rest = [span for span in spans if span not in flying]
        on_host = [self._host.run(rest)] if rest else []
        computed = [pair for result in on_host for pair in result.sampled]
        ahead = self._launch(
            [*self._follow_flight(flying), *(row for pair in computed for row in self._follow(*pair))]
        )
        unsettled: list[Span] = []
        if flight and flying:
            tokens, settled = flight.read()
            for span, row in flying.items():
                if settled[row]:
                    token = tokens[row]
                    computed.append((span, Sampled(None if token < 0 else token)))
                else:
                    unsettled.append(span)
        if unsettled:
            # Their filters reach too far for the graph; what was begun with its guess is dropped.
            on_host.append(self._host.run(unsettled))
            computed.extend(on_host[-1].sampled)
            for span in unsettled:
                if ahead is not None:
                    ahead.rows.pop(span.sequence, None)
        self._flight = ahead
        return StepResult(
            computed,
            time.perf_counter_ns() - started,
            {sequence: scores for result in on_host for sequence, scores in result.prompt_scores.items()},
            {sequence: after for result in on_host for sequence, after in result.after_drafts.items()},
        )

    def outgrown(self, sequences: Seq[Sequence]) -> list[Sequence]:
        """See `ModelRunner.outgrown`."""
        return self._host.outgrown(sequences)

    def _follow_flight(self, flying: dict[Span, int]) -> list[DecodeRow]:
        return [
            DecodeRow(span.sequence, span.stop, span.sequence.completion_length + 1, source=row)
            for span, row in flying.items()
            if self._goes_on(span)
        ]

    def _follow(self, span: Span, sampled: Sampled | None) -> list[DecodeRow]:
        if sampled is None or sampled.token is None or not self._goes_on(span):
            return []
        if sampled.token in span.sequence.end_token_ids:
            return []
        index = span.sequence.completion_length + 1
        return [DecodeRow(span.sequence, span.stop, index, token=sampled.token)]

    def _goes_on(self, span: Span) -> bool:
        """Whether a token may follow the one being sampled, and there is a block to compute it in."""
        sequence = span.sequence
        return (
            not span.drafts
            and sequence.completion_length + 1 < sequence.token_limit
            and span.stop // self._block_size < min(len(sequence.blocks), self._max_blocks)
            and runs_on_device(sequence)
        )

    def _launch(self, rows: list[DecodeRow]) -> _Flight | None:
        rows = rows[: self._batch.capacity]
        if not rows:
            return None
        bucket = self._graphs.bucket(len(rows))
        self._batch.upload(rows, bucket)
        self._graphs.run(bucket, least_mode(row.sequence.request.params for row in rows))
        landing = self._landing[self._turn]
        self._turn = 1 - self._turn
        landing.copy_(self._graphs.chosen, non_blocking=True)
        landed = None
        if self._on_cuda:
            landed = torch.cuda.Event()  # type: ignore[no-untyped-call]
            landed.record()
        places = {row.sequence: (place, row.position) for place, row in enumerate(rows)}
        return _Flight(places, landing, landed)
