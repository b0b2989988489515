"""What may come next: drafts for a sequence, found in its own text."""

from __future__ import annotations

from collections.abc import Sequence as Seq

import numpy as np

_LONGEST = 3
_SHORTEST = 2
_LONGEST_PAUSE = 64


class Drafter:
    """Proposes what followed the last tokens of a sequence where they occurred before.

    Prompt lookup (Saxena, 2023), the n-gram speculation of other engines: the latest
    earlier occurrence of the last three tokens, or else two, is copied from. A
    repetition under way goes on in circles.

    A draft costs time and may be refused, so that the number proposed follows what was
    accepted, and each refusal of all doubles a pause.
    """

    def __init__(self, most: int) -> None:
        """`most` is the largest number of tokens to propose at once."""
        self._most = most
        self._width = most
        self._refusals = 0
        self._pause = 0
        # An array, because a search by Python over a long context would take longer than the step.
        self._known = np.empty(256, dtype=np.int32)
        self._size = 0

    def propose(self, tokens: Seq[int], room: int) -> tuple[int, ...]:
        """At most `room` tokens that may follow `tokens`, all of the sequence's; called once per step."""
        count = min(self._width, room)
        if self._pause:
            self._pause -= 1
            return ()
        if count < 1:
            return ()
        self._extend(tokens)
        after = self._continuation()
        if after is None:
            return ()
        period = self._size - after
        return tuple(self._known[[after + index % period for index in range(count)]].tolist())

    def learn(self, proposed: int, accepted: int) -> None:
        """Take note of how many of the tokens `proposed` last proved right."""
        if accepted == proposed:
            self._width = min(self._most, 2 * self._width)
        else:
            self._width = accepted + 1
        if accepted:
            self._refusals = 0
        else:
            self._refusals += 1
            self._pause = min(2**self._refusals, _LONGEST_PAUSE)

    def stop(self) -> None:
        """Propose nothing any more."""
        self._most = self._width = 0

    def _extend(self, tokens: Seq[int]) -> None:
        if len(tokens) > len(self._known):
            grown = np.empty(2 * len(tokens), dtype=np.int32)
            grown[: self._size] = self._known[: self._size]
            self._known = grown
        self._known[self._size : len(tokens)] = tokens[self._size :]
        self._size = len(tokens)

    def _continuation(self) -> int | None:
        """The index after the latest earlier occurrence of the longest ending that has one."""
        known = self._known[: self._size]
        ends = np.flatnonzero(known[:-1] == known[-1])
        if not ends.size:
            return None
        for length in range(1, _LONGEST):
            longer = ends[ends >= length]
            longer = longer[known[longer - length] == known[-1 - length]]
            if not longer.size:
                return None if length < _SHORTEST else int(ends[-1]) + 1
            ends = longer
        return int(ends[-1]) + 1
