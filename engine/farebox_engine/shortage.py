"""Telling that memory ran out."""

from __future__ import annotations

import torch


def is_shortage(error: Exception) -> bool:
    """Whether `error` says so, on a GPU or not."""
    # torch's allocator for CPU memory has no exception type of its own.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
