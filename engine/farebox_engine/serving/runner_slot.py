"""The runner an engine computes with, and its replacement after a thread was lost in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from farebox_engine.errors import EngineError
from farebox_engine.scheduling.blocks import BlockPool
from farebox_engine.serving.fence import Fence

Runner = TypeVar("Runner")


class RunnerSlot(Generic[Runner]):
    """A model on its KV cache, and the cache's blocks; not `ready` while others are being built."""

    def __init__(self, build: Callable[[], tuple[BlockPool, Runner]]) -> None:
        """`build` makes an empty cache; what it raises is passed on."""
        self._build = build
        self._runner: Runner | None
        self.pool, self._runner = build()

    @property
    def ready(self) -> bool:
        return self._runner is not None

    @property
    def runner(self) -> Runner:
        """Raises `EngineError` if there is none."""
        if self._runner is None:
            raise EngineError("The core has no cache; it has to be rebuilt first.")
        return self._runner

    def rebuild(self, fence: Fence[Any]) -> BlockPool:
        """Go on with a new cache; its blocks. Raises what building it raises, and `Abandoned`."""
        # First let go of the old one: the device may not have room for both.
        self._runner = None
        # A device that hangs may hang in its allocator, too.
        with fence.guard():
            pool, runner = self._build()
        self.pool, self._runner = pool, runner
        return pool
