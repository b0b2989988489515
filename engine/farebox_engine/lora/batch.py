"""Adapters at work: each row of a flat batch meets its own.

A projection with adapters carries a forward hook. Which rows belong to which adapter is the
affair of the thread that computes: a thread that hung and comes back late finds its own
batch, not its successor's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Seq
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.lora.adapter import LowRank


@dataclass(frozen=True, slots=True)
class Group:
    """The rows int64 [n] of a batch that have the adapter `matrices`; `None` for all of them."""

    matrices: Mapping[str, tuple[LowRank, ...]]
    rows: Tensor | None


_groups: ContextVar[Seq[Group]] = ContextVar("adapter_groups", default=())


@contextmanager
def adapted(groups: Seq[Group]) -> Iterator[None]:
    """Within the context, this thread's calls of the model add what `groups` say."""
    token = _groups.set(groups)
    try:
        yield
    finally:
        _groups.reset(token)


def attach(projection: nn.Module, path: str) -> None:
    """Let the projection at `path` have adapters."""
    projection.register_forward_hook(partial(_add, path))


def _add(path: str, _projection: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Add (x `down`.T) `up`.T to each group's rows of `output` [T, out], in place."""
    for group in _groups.get():
        parts = group.matrices.get(path)
        if not parts:
            continue
        states: Tensor = inputs[0] if group.rows is None else inputs[0].index_select(0, group.rows)
        for part in parts:
            added = functional.linear(functional.linear(states, part.down), part.up)
            target = output[:, part.start : part.stop]
            if group.rows is None:
                target += added
            else:
                target.index_add_(0, group.rows, added)
