"""What lies beside the parts: how many rows, sums by currency, a digest of each part."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from farebox.billing.exports.layouts.layout import Layout
from farebox.billing.exports.stream import Part, Place
from farebox.billing.exports.tally import Sums, added, amount
from farebox.core.money import plain


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What is exported, and how it is cut. `organization` is external; None is all of them."""

    table: str
    format: str
    start: datetime
    end: datetime
    organization: str | None = None
    rows_per_part: int | None = None
    bytes_per_part: int | None = None


class PartEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A part in a manifest. Sums are exact decimals, by the layout's keys joined with a slash."""

    name: str
    rows: int
    bytes: int
    sha256: str
    sums: dict[str, dict[str, str]]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole export."""

    export: Ask
    rows: int
    sums: dict[str, dict[str, str]]
    parts: list[PartEntry]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is written, and the section's row at which the next one begins."""

    part: PartEntry
    section: int
    row: int

    @property
    def next(self) -> Place:
        return Place(self.section, self.row)


def spelled(layout: Layout, sums: Sums) -> dict[str, dict[str, str]]:
    names = [column.name for column in layout.measures]
    return {
        "/".join(key): {name: plain(amount(units)) for name, units in zip(names, found, strict=True)}
        for key, found in sorted(sums.items())
    }


def read_sums(layout: Layout, texts: dict[str, dict[str, str]]) -> Sums:
    """What `spelled` wrote."""
    names = [column.name for column in layout.measures]
    return {
        tuple(key.split("/")): [int(Decimal(found[name]).scaleb(12)) for name in names]
        for key, found in texts.items()
    }


def entry(layout: Layout, name: str, part: Part) -> PartEntry:
    return PartEntry(
        name=name, rows=part.rows, bytes=part.bytes, sha256=part.sha256, sums=spelled(layout, part.sums)
    )


def total(layout: Layout, parts: list[PartEntry]) -> Sums:
    return added(read_sums(layout, part.sums) for part in parts)


def manifest(layout: Layout, ask: Ask, parts: list[PartEntry]) -> Manifest:
    return Manifest(
        export=ask,
        rows=sum(part.rows for part in parts),
        sums=spelled(layout, total(layout, parts)),
        parts=parts,
    )


def encode(document: Any) -> bytes:
    """For people to read as well."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
