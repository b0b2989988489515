"""How many tokens a step may compute."""

from __future__ import annotations


class StepLimit:
    """At most `budget` tokens; fewer for a while after memory ran out."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._limit = budget

    def next(self) -> int:
        """The limit of the step about to be put together; it rises again bit by bit."""
        limit = self._limit
        self._limit = min(self._budget, limit + max(1, self._budget // 16))
        return limit

    def lower(self, tokens: int) -> None:
        """Make the next steps as small as what fitted, in `tokens`."""
        self._limit = max(1, tokens)
