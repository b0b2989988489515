"""The memory that the KV caches of a server's models share, on a CPU."""

import os
from weakref import WeakKeyDictionary

from farebox_engine.config import CacheRoom
from farebox_engine.engine import Engine
from farebox_engine.errors import CacheShortage, LoadError

_LEAST_TOTAL = 2 << 30
_SHARE_OF_MEMORY = 4  # the rest is for weights, activations and whatever else runs here
_SHARE_OF_LEFT = 4


class CacheMemory:
    """What the caches of all models may hold together, in bytes, and what each of them holds.

    The first model is sized as if it were alone; where the operator has set a total, it leaves half of
    that. Each later one gets a quarter of what is left, or one context if that is more. A model that is
    closed, or forgotten, has given its part back.
    """

    def __init__(self, total: int | None = None) -> None:
        """`total` is a quarter of the machine's memory, and 2 GiB at least, unless given."""
        self.total = total or max(_LEAST_TOTAL, _memory() // _SHARE_OF_MEMORY)
        self._bounded = total is not None
        self._held: WeakKeyDictionary[Engine, int] = WeakKeyDictionary()

    @property
    def held(self) -> int:
        return sum(self._held.values())

    def room(self) -> CacheRoom | None:
        """What the next model may take; None where it is the first, and nobody has set a total."""
        left = max(0, self.total - self.held)
        if not self.held:
            return CacheRoom(left // 2, left) if self._bounded else None
        return CacheRoom(left // _SHARE_OF_LEFT, left)

    def take(self, engine: Engine) -> None:
        """Count an engine's cache until it is given back, or the engine is gone."""
        self._held[engine] = engine.cache_bytes

    def give_back(self, engine: Engine) -> None:
        self._held.pop(engine, None)

    def refusal(self, shortage: CacheShortage) -> LoadError:
        """Why a model does not fit beside the others, with the sum."""
        return LoadError(
            f"The model's cache needs {shortage.needed} bytes for one context, but of the {self.total} bytes "
            f"that all caches may hold, {len(self._held)} other models hold {self.held}; remove a model, "
            "shorten this one's context in its config.json, or raise FAREBOX_ENGINE_CACHE_BYTES."
        )


def _memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
