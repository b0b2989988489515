"""An adapter in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LowRank:
    """What is added to rows `start` to `stop` of one projection: `up` @ `down`.

    `down` is [rank, in_features]; `up` is [stop - start, rank], the adapter's scale in it.
    """

    down: Tensor
    up: Tensor
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Adapter:
    """A loaded adapter: by the path of each projection in our module, what is added to it.

    `hash` is the SHA-256 over its files, hexadecimal.
    """

    name: str
    hash: str
    rank: int
    matrices: Mapping[str, tuple[LowRank, ...]]

    @property
    def parameters(self) -> int:
        return sum(part.down.numel() + part.up.numel() for parts in self.matrices.values() for part in parts)


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an engine tells of an adapter that it has loaded."""

    name: str
    hash: str
    rank: int
    parameters: int
