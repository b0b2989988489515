"""How much of what is refused each who asks may cost."""

import math
import time
from collections.abc import Callable
from uuid import UUID

_LARGEST = 10_000


class RefusalBuckets:
    """A token bucket for each id, from which refusals take; a rate of 0 bounds nothing.

    It is refilled at `per_minute`, up to what `burst_seconds` of that are. What is known only afterwards may
    cost more than there is: that is owed, up to the bucket's size if `owing`, and else forgiven. `clock`
    tells seconds that never go back.
    """

    def __init__(
        self,
        per_minute: float,
        *,
        burst_seconds: float = 10,
        owing: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = per_minute / 60
        self._size = max(self._rate * burst_seconds, 1.0)
        self._least = -self._size if owing else 0.0
        self._clock = clock
        # The level as of a moment; a bucket that is full is not kept.
        self._levels: dict[UUID, tuple[float, float]] = {}

    def wait_of(self, who: UUID) -> int:
        """Whole seconds until there is one to take again; 0 if that is now."""
        found = self._levels.get(who)
        if found is None:
            return 0
        level = self._level(*found)
        return 0 if level >= 1 else math.ceil((1 - level) / self._rate)

    def take(self, who: UUID, amount: float = 1.0) -> float:
        """Take what a refusal cost; how much of it was taken."""
        if not self._rate:
            return 0.0
        if len(self._levels) >= _LARGEST:
            self._forget_full()
        found = self._levels.get(who)
        level = self._size if found is None else self._level(*found)
        left = max(level - amount, self._least)
        self._levels[who] = (left, self._clock())
        return level - left

    def _level(self, level: float, at: float) -> float:
        return min(self._size, level + (self._clock() - at) * self._rate)

    def _forget_full(self) -> None:
        self._levels = {who: found for who, found in self._levels.items() if self._level(*found) < self._size}
