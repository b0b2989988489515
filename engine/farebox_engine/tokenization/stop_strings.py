"""Finding stop strings in a stream."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Lets text through up to the first stop string, which is swallowed.

    Only what may be the beginning of a stop string is held back. Of several, the one
    completed first wins; of those completed by the same character, the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Return the text that is safe to show, and whether a stop string is complete."""
        if not self._stops:
            return text, False
        held = self._held + text
        matches = [(start + len(stop), start) for stop in self._stops if (start := held.find(stop)) >= 0]
        if matches:
            self._held = ""
            return held[: min(matches)[1]], True
        keep = self._longest_beginning(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep], False

    def flush(self) -> str:
        """The text held back, for when no more is to come."""
        held, self._held = self._held, ""
        return held

    def _longest_beginning(self, text: str) -> int:
        """Length of the longest end of `text` with which some stop string begins."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            ending = text[-length:]
            if any(stop.startswith(ending) for stop in self._stops):
                return length
        return 0
