"""A decode step and its sampler as one unit of work per batch size, captured once and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from farebox_engine.execution.device_batch import FRESH, LENGTH, POSITION, SLOT, SOURCE, DeviceBatch
from farebox_engine.execution.device_sampler import Mode, choose
from farebox_engine.execution.kv_cache import KVCache
from farebox_engine.layers.attention import CAUSAL, AttentionRule
from farebox_engine.models.registry import CausalLM

Work = Callable[[], None]
Capture = Callable[[Work], Work]

# Up to here sizes double; past it they grow by this many, so that little is computed for padding.
_STRIDE = 16


class DecodeKernels(Protocol):
    """See `farebox_engine.kernels.paged_decode`; `farebox_engine.kernels.plain` is the same without a GPU."""

    def store_kv(self, keys: Tensor, values: Tensor, slots: Tensor, key: Tensor, value: Tensor) -> None: ...

    def paged_decode(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        tables: Tensor,
        lengths: Tensor,
        rule: AttentionRule,
        splits: int,
    ) -> Tensor: ...


class DecodeAttention:
    """Attention of one token per row by the kernels: implements `AttentionBackend`."""

    def __init__(
        self,
        kernels: DecodeKernels,
        cache: KVCache,
        *,
        slots: Tensor,
        tables: Tensor,
        lengths: Tensor,
        splits: int,
    ) -> None:
        self._kernels = kernels
        self._cache = cache
        self._slots, self._tables, self._lengths = slots, tables, lengths
        self._splits = splits

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule = CAUSAL
    ) -> Tensor:
        """See `AttentionBackend.attend`; also stores `key` and `value`."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        self._kernels.store_kv(keys, values, self._slots, key, value)
        return self._kernels.paged_decode(
            query, keys, values, self._tables, self._lengths, rule, self._splits
        )


def buckets(capacity: int) -> list[int]:
    """The batch sizes that are captured, ascending; the last is `capacity`."""
    sizes = [1, 2, 4, 8, *range(_STRIDE, capacity, _STRIDE)]
    return [*(size for size in sizes if size < capacity), capacity]


def run_eagerly(work: Work) -> Work:
    """The capture for devices that know no graphs: the work itself."""
    return work


class CudaCapture:
    """Records work as a CUDA graph. Graphs share one memory pool, since only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> Work:
        """Run `work` twice, so that kernels are compiled and workspaces allocated, then record it.

        `work` must be harmless when repeated.
        """
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
            work()
        current.wait_stream(self._stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Other threads may use other models meanwhile: their allocations do not concern this capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        replay: Work = graph.replay
        return replay


class DecodeGraphs:
    """The captured steps; each is made when it is first needed.

    A step reads `batch` and `previous` (the tokens of the step before), and writes
    `chosen` int64 [2, capacity]: tokens, and 1 where the token is settled (see `choose`).
    Repeating it changes nothing.
    """

    def __init__(
        self,
        model: CausalLM,
        cache: KVCache,
        batch: DeviceBatch,
        kernels: DecodeKernels,
        splits: Callable[[int], int],
        capture: Capture,
    ) -> None:
        self._model = model
        self._cache = cache
        self._batch = batch
        self._kernels = kernels
        self._splits = splits
        self._capture = capture
        self._sizes = buckets(batch.capacity)
        self._steps: dict[tuple[int, Mode], Work] = {}
        device = batch.integers.device
        self.chosen = torch.zeros((2, batch.capacity), dtype=torch.int64, device=device)
        self._previous = torch.zeros(batch.capacity, dtype=torch.int64, device=device)

    def bucket(self, rows: int) -> int:
        """The smallest captured batch size that holds `rows`."""
        return next(size for size in self._sizes if size >= rows)

    def run(self, bucket: int, mode: Mode) -> None:
        """Compute the step that has been uploaded; returns before the device has."""
        # Outside the graph, so that repeating the graph repeats the same step.
        self._previous.copy_(self.chosen[0])
        step = self._steps.get((bucket, mode))
        if step is None:
            step = self._steps[bucket, mode] = self._capture(lambda: self._step(bucket, mode))
        step()

    def _step(self, bucket: int, mode: Mode) -> None:
        integers = self._batch.integers[:, :bucket]
        source = integers[SOURCE]
        tokens = torch.where(source >= 0, self._previous[source.clamp(min=0)], integers[FRESH])
        attention = DecodeAttention(
            self._kernels,
            self._cache,
            slots=integers[SLOT],
            tables=self._batch.tables[:bucket],
            lengths=integers[LENGTH].to(torch.int32),
            splits=self._splits(bucket),
        )
        # A row whose logits were no numbers has the token -1; its sequence has ended.
        hidden = self._model(tokens.clamp(min=0), integers[POSITION], attention)
        ids, settled = choose(self._model.logits(hidden), self._batch.numbers[:, :bucket], mode)
        self.chosen[0, :bucket] = ids
        self.chosen[1, :bucket] = settled
