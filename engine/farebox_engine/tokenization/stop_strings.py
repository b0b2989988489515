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
        self._unseen: list[tuple[int, int]] = []  # what of `_held` is not text, as places from and to

    @property
    def searches(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._stops)

    def feed(self, text: str, *, unseen: bool = False) -> tuple[str, bool]:
        """Return the text that is safe to show, and whether a stop string is complete.

        `unseen`: the name of a token that has no text. A stop string may hold it, but it is never shown.
        """
        if not self._stops:
            return "" if unseen else text, False
        if unseen:
            self._unseen.append((len(self._held), len(self._held) + len(text)))
        self._held += text
        matches = [
            (start + len(stop), start) for stop in self._stops if (start := self._held.find(stop)) >= 0
        ]
        if matches:
            shown = self._release(min(matches)[1])
            self._held, self._unseen = "", []
            return shown, True
        return self._release(len(self._held) - self._longest_beginning(self._held)), False

    def flush(self) -> str:
        """The text held back, for when no more is to come."""
        return self._release(len(self._held))

    def _release(self, end: int) -> str:
        """Let go of the first `end` characters; gives what of them is text."""
        released, self._held = self._held[:end], self._held[end:]
        for start, stop in reversed(self._unseen):
            released = released[: min(start, end)] + released[min(stop, end) :]
        self._unseen = [(max(start - end, 0), stop - end) for start, stop in self._unseen if stop > end]
        return released

    def _longest_beginning(self, text: str) -> int:
        """Length of the longest end of `text` with which some stop string begins."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            ending = text[-length:]
            if any(stop.startswith(ending) for stop in self._stops):
                return length
        return 0
