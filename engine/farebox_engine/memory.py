"""How much memory there is."""

from __future__ import annotations

import os

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


def _total(device: torch.device) -> int:
    """Bytes of memory in all, whoever uses them."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
