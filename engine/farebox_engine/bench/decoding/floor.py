"""The least time a step can take on this machine: bytes over bandwidth, operations over arithmetic rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.bench.decoding.workload import Workload
from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.execution.kv_cache import KVShape

_CPU_BYTES, _GPU_BYTES = 1 << 28, 1 << 32


@dataclass(frozen=True, slots=True)
class Machine:
    """Measured: bytes read per second from memory, and operations per second of large products."""

    name: str
    bytes_per_second: float
    operations_per_second: float

    @classmethod
    def measure(cls, device: torch.device, dtype: torch.dtype) -> Machine:
        """The best of several readings of a tensor larger than any cache, and of several products."""
        cuda = device.type == "cuda"
        size = (_GPU_BYTES if cuda else _CPU_BYTES) // 4
        numbers = torch.ones(size, device=device)
        width = 8192 if cuda else 1024
        left, right = (torch.randn(width, width, device=device).to(dtype) for _ in range(2))
        product = torch.empty(width, width, device=device, dtype=dtype)
        return cls(
            torch.cuda.get_device_name(device) if cuda else "CPU",
            4 * size / _best(numbers.sum, device),
            2 * width**3 / _best(lambda: torch.mm(left, right, out=product), device),
        )


@dataclass(frozen=True, slots=True)
class Floor:
    """Of one decode step: what it must read and compute, and the seconds that takes at least."""

    bytes: float
    operations: float
    seconds: float

    @classmethod
    def of(
        cls,
        config: DecoderConfig,
        parameters: int,
        dtype: torch.dtype,
        machine: Machine,
        workload: Workload,
    ) -> Floor:
        """A step in the middle of the answers; weights are read once.

        Of an embedding only the rows of the tokens are read, unless it is also the head.
        """
        batch, context = workload.batch, workload.context + workload.new_tokens / 2
        weights = parameters - config.idle_parameters
        if not config.tie_word_embeddings:
            weights -= config.vocab_size * config.hidden_size
        read: float = weights * dtype.itemsize
        read += batch * context * KVShape.of_decoder(config).bytes_per_token(dtype)
        width = config.num_layers * config.num_heads * config.head_dim
        operations = batch * (2 * weights + 4 * width * context)
        seconds = max(read / machine.bytes_per_second, operations / machine.operations_per_second)
        return cls(read, operations, seconds)


def _best(work: Callable[[], Tensor], device: torch.device, rounds: int = 40) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return best
