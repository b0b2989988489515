"""CPU threads: which of them torch may wake."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
