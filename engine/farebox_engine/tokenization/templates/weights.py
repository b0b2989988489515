"""How large a list is with all that it holds, counted as often as it is held.

A list may hold another twice, and this a third twice: written out, compared or sorted it is 2^n times the
size that it has in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from farebox_engine.errors import TemplateError

_EMPTY: dict[str, object] = {}
CONTAINERS = (list, tuple, dict, type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))
# Lighter ones are weighed again rather than remembered.
_LIGHT = 100
_REMEMBERED = 10_000


class Weights:
    """Weighs what one run of a template makes: a character is 1, and so is anything with what it is in."""

    def __init__(self, most: int) -> None:
        self._most = most
        # By id; each is kept, so that its id stays its own.
        self._known: dict[int, tuple[object, int]] = {}

    def check(self, value: object) -> None:
        """Raises TemplateError: `value` weighs more than `most`."""
        if self._of(value) > self._most:
            raise TemplateError(f"The chat template makes a list of more than {self._most} characters.")

    def _of(self, value: object) -> int:
        if isinstance(value, str):
            return 1 + len(value)
        if not isinstance(value, CONTAINERS):
            return 1
        known = self._known.get(id(value))
        if known is None:
            parts = chain(value, value.values()) if isinstance(value, dict) else value
            return self._remember(value, self._sum(parts))
        return known[1]

    def _sum(self, parts: Iterable[object]) -> int:
        total = 1
        for part in parts:
            total += self._of(part)
            if total > self._most:
                break
        return total

    def _remember(self, value: object, weight: int) -> int:
        if weight > _LIGHT:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[id(value)] = (value, weight)
        return weight
