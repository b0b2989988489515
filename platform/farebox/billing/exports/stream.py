"""From Postgres to parts: rows are copied out, summed and cut, and never held but for a part's buffer.

Postgres sends whole rows, each ended by one line feed: texts have none (`query`). So a line is a row.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, TypeVar

import asyncpg

from farebox.billing.exports.formats import Format, Writer
from farebox.billing.exports.layouts.layout import Layout, Source
from farebox.billing.exports.layouts.rows import PLANNER
from farebox.billing.exports.query import section_query
from farebox.billing.exports.tally import Sums
from farebox.core.database import open_connection

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """How far an export has come: so many rows of a section."""

    section: int = 0
    row: int = 0


@dataclass(frozen=True)
class Limits:
    """The most that a part holds; at least a row. None: no bound."""

    rows: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Part:
    """A part that is written: its place in the order, what it holds, and where the next one begins."""

    number: int
    rows: int
    bytes: int
    sha256: str
    sums: Sums
    next: Place


class Shelf(Protocol):
    """Where parts go. A part is there when `close` has returned, and before that not at all."""

    def open(self, number: int) -> IO[bytes]:
        """A file for a part, which the shelf closes."""

    async def close(self, part: Part) -> bool:
        """Keep the part that was opened last; False to go no further."""

    def discard(self) -> None:
        """Forget the part that was opened last, if it was not closed."""


@dataclass
class Cut:
    """What an export is of, and where it goes on."""

    layout: Layout
    format: Format
    source: Source
    limits: Limits = field(default_factory=Limits)
    place: Place = field(default_factory=Place)
    number: int = 1


class _Paused(Exception):
    """The shelf takes no more for now."""


@asynccontextmanager
async def reading(url: str, source: Source) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection to copy from: as the organization itself under its policies, or across all."""
    if source.organization_id is None:
        connection = await open_connection(url, "farebox_meter", **PLANNER)
    else:
        own = {"farebox.organization_id": str(source.organization_id)}
        connection = await open_connection(url, "farebox_app", **PLANNER, **own)
    try:
        yield connection
    finally:
        connection.terminate()


async def write_parts(connection: "asyncpg.Connection[Any]", cut: Cut, shelf: Shelf, seconds: float) -> bool:
    """Write what is left; whether that was all. `seconds` are a section's bound."""
    cutter = _Cutter(cut, shelf)
    try:
        for section in range(cut.place.section, len(cut.layout.sections)):
            row = cut.place.row if section == cut.place.section else 0
            cutter.begin_section(section, row)
            await _copy(connection, cut, section, row, cutter.take, seconds)
        await cutter.end()
    except _Paused:
        return False
    except BaseException:
        shelf.discard()
        raise
    return True


async def _copy(
    connection: "asyncpg.Connection[Any]", cut: Cut, section: int, row: int, sink: Any, seconds: float
) -> None:
    query = section_query(cut.layout, section, cut.format.words)
    source = cut.source
    values: list[object] = [source.period.start, source.period.end, source.organization_id, row]
    if "$5" in query:
        values.append(source.provider)
    # JSON has neither of these characters, so that Postgres quotes nothing.
    plain = {"quote": "\x01", "delimiter": "\x02"} if cut.format.words == "json" else {}
    await connection.copy_from_query(query, *values, output=sink, format="csv", timeout=seconds, **plain)


class _Cutter:
    """Takes rows, and lays parts on the shelf."""

    def __init__(self, cut: Cut, shelf: Shelf) -> None:
        self._cut = cut
        self._shelf = shelf
        self._number = cut.number
        self._place = cut.place
        self._rest = b""
        self._open: _OpenPart | None = None

    def begin_section(self, section: int, row: int) -> None:
        self._place = Place(section, row)

    async def take(self, data: bytes) -> None:
        """Raises _Paused."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        while lines:
            part = await self._part()
            taken = part.room(lines)
            await self._work(part.write, lines[:taken])
            self._place = Place(self._place.section, self._place.row + taken)
            lines = lines[taken:]
            if lines:
                await self._close(part)

    async def end(self) -> None:
        """Close the last part. An export without rows has one part all the same."""
        if self._open is not None or self._number == 1:
            await self._close(await self._part(), last=True)

    async def _part(self) -> "_OpenPart":
        if self._open is None:
            self._open = await self._work(_OpenPart, self._cut, self._shelf.open(self._number))
        return self._open

    async def _work(self, work: Callable[..., T], *arguments: object) -> T:
        """Out of the loop's way, if it takes long. Postgres waits meanwhile."""
        if self._cut.format.slow:
            return await asyncio.to_thread(work, *arguments)
        return work(*arguments)

    async def _close(self, part: "_OpenPart", *, last: bool = False) -> None:
        whole = await self._work(part.finish, self._number, self._place)
        self._open = None
        self._number += 1
        if not await self._shelf.close(whole) and not last:
            raise _Paused


class _OpenPart:
    """A part while it is written."""

    def __init__(self, cut: Cut, file: IO[bytes]) -> None:
        self._limits = cut.limits
        self._file = _Counted(file)
        self._writer: Writer = cut.format.writer(cut.layout, self._file)
        self._tally = cut.format.tally(cut.layout)
        self._rows = 0
        self._taken = self._file.bytes

    def room(self, lines: Sequence[bytes]) -> int:
        """How many of the lines fit; one at least into an empty part."""
        fit = len(lines)
        if self._limits.rows is not None:
            fit = min(fit, self._limits.rows - self._rows)
        if self._limits.bytes is None:
            return fit
        left = self._limits.bytes - self._taken
        for place, line in enumerate(lines[:fit]):
            left -= len(line) + len(b"\r\n")
            if left < 0 and (place or self._rows):
                return place
        return fit

    def write(self, lines: Sequence[bytes]) -> None:
        if lines:
            self._tally.add(lines)
            self._writer.write(lines)
            self._rows += len(lines)
            self._taken += sum(map(len, lines)) + len(b"\r\n") * len(lines)

    def finish(self, number: int, place: Place) -> Part:
        self._writer.finish()
        return Part(
            number=number,
            rows=self._rows,
            bytes=self._file.bytes,
            sha256=self._file.digest.hexdigest(),
            sums=dict(self._tally.sums),
            next=place,
        )


class _Counted:
    """A file that knows what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.bytes = 0
        self.digest = hashlib.sha256()
        self.closed = False

    def write(self, data: bytes) -> int:
        self._file.write(data)
        self.digest.update(data)
        self.bytes += len(data)
        return len(data)

    def flush(self) -> None:
        self._file.flush()
