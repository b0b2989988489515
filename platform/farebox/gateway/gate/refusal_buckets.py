"""How many requests of each who asks may be refused."""

import math
import time
from collections.abc import Callable
from uuid import UUID

# Of a minute's refusals: how many may come at once.
BURST_SECONDS = 10
_LARGEST = 10_000


class RefusalBuckets:
    """A token bucket for each id, from which every refusal takes; a rate of 0 bounds nothing.

    `clock` tells seconds that never go back.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._size = max(self._rate * BURST_SECONDS, 1.0)
        self._clock = clock
        # The level as of a moment; a bucket that is full is not kept.
        self._levels: dict[UUID, tuple[float, float]] = {}

    def wait_of(self, who: UUID) -> int:
        """Whole seconds until `who` may be refused again; 0 if that is now."""
        found = self._levels.get(who)
        if found is None:
            return 0
        level = self._level(*found)
        return 0 if level >= 1 else math.ceil((1 - level) / self._rate)

    def take(self, who: UUID) -> bool:
        """Note a refusal; whether there was something left to take for it."""
        if not self._rate:
            return False
        if len(self._levels) >= _LARGEST:
            self._forget_full()
        found = self._levels.get(who)
        level = self._size if found is None else self._level(*found)
        self._levels[who] = (max(level - 1, 0.0), self._clock())
        return level >= 1

    def _level(self, level: float, at: float) -> float:
        return min(self._size, level + (self._clock() - at) * self._rate)

    def _forget_full(self) -> None:
        self._levels = {who: found for who, found in self._levels.items() if self._level(*found) < self._size}
