"""How many tokens an engine computes per second."""

from __future__ import annotations


class TokenRate:
    """Tokens per second over the last five seconds."""

    _WINDOW = 5

    def __init__(self) -> None:
        # One slot per second, reused in a ring: a reader on another thread never sees a resize.
        self._seconds = [-1] * (self._WINDOW + 2)
        self._tokens = [0] * (self._WINDOW + 2)

    def add(self, now: float, tokens: int) -> None:
        slot = int(now) % len(self._seconds)
        if self._seconds[slot] != int(now):
            self._seconds[slot], self._tokens[slot] = int(now), 0
        self._tokens[slot] += tokens

    def per_second(self, now: float) -> float:
        """The rate over the last whole seconds."""
        oldest = int(now) - self._WINDOW
        counted = sum(
            tokens
            for second, tokens in zip(self._seconds, self._tokens, strict=True)
            if oldest <= second < int(now)
        )
        return counted / self._WINDOW
