"""The cache an engine computes in, and its replacement after a thread was lost in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from farebox_engine.errors import EngineError
from farebox_engine.scheduling.blocks import BlockPool
from farebox_engine.serving.fence import Fence

Runner = TypeVar("Runner")


class CacheSeat(Generic[Runner]):
    """A cache's blocks, and the model running on it; vacant while another is being built."""

    def __init__(self, build: Callable[[], tuple[BlockPool, Runner]]) -> None:
        """`build` makes an empty cache; what it raises is passed on."""
        self._build = build
        self._runner: Runner | None
        self.pool, self._runner = build()

    @property
    def vacant(self) -> bool:
        return self._runner is None

    @property
    def runner(self) -> Runner:
        """Raises `EngineError` if there is none."""
        if self._runner is None:
            raise EngineError("The core has no cache; it has to be rebuilt first.")
        return self._runner

    def renew(self, fence: Fence[Any]) -> None:
        """Go on with a new cache; raises what building it raises, and `Abandoned`."""
        # First let go of the old one: the device may not have room for both.
        self._runner = None
        # A device that hangs may hang in its allocator, too.
        with fence.guard():
            pool, runner = self._build()
        self.pool, self._runner = pool, runner
