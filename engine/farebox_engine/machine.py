"""The machine underneath: its memory, the sign that it ran out, and the threads torch may wake."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from farebox_engine.errors import LoadError


def check_context(device: torch.device, *, tokens: int, needed: int) -> None:
    """See to it that the cache of one context of `tokens`, `needed` bytes, can be had at all.

    Raises:
        LoadError: it is more than all the device's memory.
    """
    memory = _total(device)
    if needed > memory:
        raise LoadError(
            f"One context of {tokens} tokens needs {needed} bytes of cache, more than the {memory} bytes of "
            "memory here; choose a shorter context_length, or shorten the model's in its config.json."
        )


def is_shortage(error: Exception) -> bool:
    """Whether `error` says that memory ran out, on a GPU or not."""
    # torch's allocator for CPU memory has no exception type of its own.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use the calling thread alone.

    Each thread that computes in parallel gets a pool of workers from libgomp. Once there are
    more workers in the process than cores, all of them sleep between any two operators instead
    of spinning, and waking them takes tens of microseconds each time: a model of many small
    operators loses a third of its speed for ever. So whatever is computed outside the engine's
    own thread, such as loading, must not leave a pool behind.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _total(device: torch.device) -> int:
    """Bytes of memory in all, whoever uses them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
