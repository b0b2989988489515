"""How an engine runs: device, memory, batch sizes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from farebox_engine.errors import CacheShortage, LoadError

_CPU_CACHE_BYTES = 1 << 30
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class CacheRoom:
    """What a model's KV cache may take beside those of others, in bytes.

    That is `share`, or one context if that is more, but never more than is `left`.
    """

    share: int
    left: int


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings of one engine; None means chosen for the machine and the model.

    `device` is "cpu", "cuda" or "cuda:N". `dtype` is "float32", "bfloat16" or "float16";
    by default fp32 on a CPU, where bf16 is slow without special instructions, and bf16 on
    a GPU. `context_length` may shorten the model's own. `kv_cache_bytes` bounds the cache
    (by default 1 GiB on a CPU, 80 % of the free memory on a GPU; never less than one full
    context). Where models share a CPU's memory, `cache_room` lowers that default. `step_tokens`
    bounds the tokens computed in one step, and with them how long a long prompt holds up the
    others. `threads` is the number of CPU threads per step, by
    default the number of physical cores. `quantization` "int8" computes linear layers on
    a CPU in int8, and keeps their weights in int8 on a GPU; "fp8" computes them in fp8
    (e4m3) on a GPU that can (Ada, Hopper and newer). Both are faster than the model's own
    precision, at a small cost in accuracy; encoders and encoder-decoders keep theirs.

    `speculative_tokens` is how many tokens at most a sequence may guess in a step from what
    its text has said before, to be verified at once (by default 8; 0 for none). It changes
    how fast tokens come, not which. On a GPU, and by requests with penalties or a grammar,
    nothing is guessed.

    A step that takes longer than `step_timeout` seconds (0: any time) counts as hung: its
    requests end with an error, and a new thread with a new cache goes on with the others.
    Once `abandoned_threads` hang at the same time, each holding a cache, the engine fails.
    A large model on a slow machine may need more for `step_tokens` of a prompt.
    """

    device: str | None = None
    dtype: str | None = None
    context_length: int | None = None
    block_size: int = 16
    kv_cache_bytes: int | None = None
    cache_room: CacheRoom | None = None
    step_tokens: int | None = None
    max_running: int | None = None
    threads: int | None = None
    quantization: str | None = None
    speculative_tokens: int | None = None
    step_timeout: float = 30.0
    abandoned_threads: int = 3

    def __post_init__(self) -> None:
        for name in (
            "context_length",
            "block_size",
            "kv_cache_bytes",
            "step_tokens",
            "max_running",
            "threads",
            "abandoned_threads",
        ):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise LoadError(f"The engine setting {name} is {value}; it must be at least 1.")
        if self.speculative_tokens is not None and self.speculative_tokens < 0:
            raise LoadError(
                f"The engine setting speculative_tokens is {self.speculative_tokens}; use 0 for none."
            )
        if not 0 <= self.step_timeout < float("inf"):
            raise LoadError(f"The engine setting step_timeout is {self.step_timeout}; use seconds, or 0.")
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise LoadError(f"The engine setting dtype is {self.dtype!r}; use one of {', '.join(_DTYPES)}.")
        if self.quantization not in (None, "int8", "fp8"):
            raise LoadError(
                f"The engine setting quantization is {self.quantization!r}; use int8, fp8 or leave it out."
            )

    def torch_device(self) -> torch.device:
        """The device to run on.

        Raises:
            LoadError: it does not exist here.
        """
        name = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
        except RuntimeError:
            device = torch.device("meta")
        if device.type not in {"cpu", "cuda"}:
            raise LoadError(f"The engine setting device is {name!r}; use cpu, cuda or cuda:N.")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise LoadError(f"There is no device {name} here; {torch.cuda.device_count()} GPUs were found.")
        return device

    def torch_dtype(self, device: torch.device) -> torch.dtype:
        return _DTYPES[self.dtype or ("float32" if device.type == "cpu" else "bfloat16")]

    def tokens_per_step(self, device: torch.device) -> int:
        return self.step_tokens or (512 if device.type == "cpu" else 8192)

    def running_limit(self, device: torch.device) -> int:
        """How many sequences run at once; each needs one token of every step."""
        limit = self.max_running or (64 if device.type == "cpu" else 256)
        return min(limit, self.tokens_per_step(device))

    def drafts(self, device: torch.device) -> int:
        """How many tokens a sequence may guess in a step."""
        if device.type != "cpu":
            return 0
        return 8 if self.speculative_tokens is None else self.speculative_tokens

    def cpu_cache_bytes(self, needed: int) -> int:
        """Bytes for a cache in the memory of a CPU, of which one context takes `needed`.

        Raises:
            CacheShortage: other models have left less than that.
        """
        room = self.cache_room
        if room is None:
            return _CPU_CACHE_BYTES
        if needed > room.left:
            raise CacheShortage(needed, room.left)
        return min(_CPU_CACHE_BYTES, room.share)

    def cpu_threads(self) -> int:
        return self.threads or _physical_cores()


def _physical_cores() -> int:
    """Cores this process may use, not counting a core's second hardware thread."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = set()
    for cpu in allowed:
        try:
            path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            with open(path, encoding="ascii") as file:
                siblings.add(file.read())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)
