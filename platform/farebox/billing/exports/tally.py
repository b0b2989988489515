"""Sums of what was written, read from the very lines.

Amounts have twelve decimals in every line: without the point they are whole numbers, which Python adds
exactly and fast.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from farebox.billing.exports.layouts.layout import Layout

DECIMALS = 12

Key = tuple[str, ...]
Sums = dict[Key, list[int]]


class CsvTally:
    """Adds up the first columns of lines of CSV."""

    def __init__(self, layout: Layout) -> None:
        self._measures = len(layout.measures)
        self._cells = len(layout.measures) + len(layout.keys)
        self._sums: dict[bytes, list[int]] = {}

    def add(self, lines: Iterable[bytes]) -> None:
        measures, cells, sums = self._measures, self._cells, self._sums
        for line in lines:
            first = line.split(b",", cells)
            key = b",".join(first[measures:cells])
            found = sums.get(key)
            if found is None:
                found = sums[key] = [0] * measures
            for place in range(measures):
                found[place] += int(first[place].replace(b".", b""))

    @property
    def sums(self) -> Sums:
        return {tuple(key.decode().split(",")): found for key, found in self._sums.items()}


class JsonTally:
    """Adds up the same columns of objects, one a line."""

    def __init__(self, layout: Layout) -> None:
        self._measures = [column.name for column in layout.measures]
        self._keys = [column.name for column in layout.keys]
        fields: list[tuple[str, Any]] = [(name, Decimal) for name in self._measures]
        fields += [(name, str) for name in self._keys]
        self._decode = msgspec.json.Decoder(msgspec.defstruct("Line", fields)).decode
        self.sums: Sums = defaultdict(lambda: [0] * len(self._measures))

    def add(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            read = self._decode(line)
            found = self.sums[tuple(getattr(read, name) for name in self._keys)]
            for place, name in enumerate(self._measures):
                found[place] += int(getattr(read, name).scaleb(DECIMALS))


def added(sums: Iterable[Mapping[Key, Sequence[int]]]) -> Sums:
    """Sums of several parts together."""
    total: Sums = {}
    for each in sums:
        for key, amounts in each.items():
            before = total.get(key, [0] * len(amounts))
            total[key] = [a + b for a, b in zip(before, amounts, strict=True)]
    return total


def amount(units: int) -> Decimal:
    """The amount that so many of its last decimal are."""
    return Decimal(units).scaleb(-DECIMALS)
