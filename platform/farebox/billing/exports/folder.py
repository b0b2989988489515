"""An export into a folder, for the operator. Parts come under their names when they are whole.

`.unfinished.jsonl` says how far it has come: a line for the export, and one for each part. Called again for
the same, it goes on there; the part that was being written is written anew. `manifest.json` comes last, after
the check against the ledger.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO

import msgspec

from farebox.billing.exports.accounting import program_of, write_journal
from farebox.billing.exports.balance import check_balance, ledger_sums
from farebox.billing.exports.errors import InvalidExport
from farebox.billing.exports.kinds import JOURNAL, Kind, kind_of
from farebox.billing.exports.layouts.layout import Period, Source
from farebox.billing.exports.manifest import Ask, Manifest, Step, encode, entry, manifest, total
from farebox.billing.exports.stream import Cut, Limits, Part, Place, reading, write_parts
from farebox.billing.exports.tally import Sums
from farebox.core.ids import internal

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished.jsonl"
DRAFT = ".part"
# Of a section, whose rows may take hours.
_SECONDS = 86_400.0

# Told of each part that is there.
Watch = Callable[[Step], None]


async def export_to_folder(
    url: str,
    ask: Ask,
    folder: Path,
    *,
    provider: str,
    watch: Watch = lambda _: None,
) -> Manifest:
    """Write what lacks of an export.

    Raises InvalidExport for a folder that holds another export, and UnbalancedExport.
    """
    kind = kind_of(ask.table, ask.format)
    if (finished := _finished(folder, ask)) is not None:
        return finished
    steps = _begun(folder, ask)
    shelf = FolderShelf(folder, ask, steps, watch)
    source = source_of(ask, provider)
    cut = Cut(
        kind.layout,
        kind.format,
        source,
        Limits(ask.rows_per_part, ask.bytes_per_part),
        steps[-1].next if steps else Place(),
        len(steps) + 1,
    )
    async with reading(url, source) as connection:
        await write_parts(connection, cut, shelf, _SECONDS)
        ledger = await ledger_sums(connection, kind.layout, source, _SECONDS)
    return _finish(folder, ask, kind, steps, ledger)


async def export_journal(
    url: str, ask: Ask, folder: Path, *, provider: str, codes: Mapping[str, str] = MappingProxyType({})
) -> Manifest:
    """Write the journal for an accounting program: a line for each day and account, in one part.

    Raises InvalidExport and UnbalancedExport, as above.
    """
    if (finished := _finished(folder, ask)) is not None:
        return finished
    steps = _begun(folder, ask)
    layout, source = JOURNAL.layout, source_of(ask, provider)
    async with reading(url, source) as connection:
        name = f"journal-{ask.format}.csv"
        with open_draft(folder, name) as file:
            part = await write_journal(connection, source, program_of(ask.format), codes, file)
        ledger = await ledger_sums(connection, layout, source, _SECONDS)
    steps[:] = [Step(part=entry(layout, name, part), section=0, row=0)]
    return _finish(folder, ask, JOURNAL, steps, ledger)


def source_of(ask: Ask, provider: str) -> Source:
    organization_id = None if ask.organization is None else internal("org", ask.organization)
    return Source(Period(ask.start, ask.end), organization_id, provider)


@contextmanager
def open_draft(folder: Path, name: str) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is whole."""
    with (folder / DRAFT).open("wb") as file:
        yield file
        close(file)
    (folder / DRAFT).replace(folder / name)


def _finish(folder: Path, ask: Ask, kind: Kind, steps: list[Step], ledger: Sums) -> Manifest:
    parts = [step.part for step in steps]
    check_balance(kind.layout, total(kind.layout, parts), ledger)
    whole = manifest(kind.layout, ask, parts)
    put(folder / MANIFEST, encode(whole))
    (folder / UNFINISHED).unlink()
    return whole


class FolderShelf:
    """Parts as files. A draft gets its name when its bytes are on the disk."""

    def __init__(self, folder: Path, ask: Ask, steps: list[Step], watch: Watch) -> None:
        self._folder = folder
        self._ask = ask
        self._kind = kind_of(ask.table, ask.format)
        self._steps = steps
        self._watch = watch
        self._file: IO[bytes] | None = None

    def open(self, number: int) -> IO[bytes]:
        self._file = (self._folder / DRAFT).open("wb")
        return self._file

    async def close(self, part: Part) -> bool:
        await asyncio.to_thread(self._keep, part)
        self._watch(self._steps[-1])
        return True

    def discard(self) -> None:
        if self._file is not None:
            self._file.close()

    def _keep(self, part: Part) -> None:
        if self._file is not None:
            close(self._file)
        name = part_name(self._ask, self._kind, part.number)
        (self._folder / DRAFT).replace(self._folder / name)
        step = Step(part=entry(self._kind.layout, name, part), section=part.next.section, row=part.next.row)
        self._steps.append(step)
        _note(self._folder, step)


def part_name(ask: Ask, kind: Kind, number: int) -> str:
    """In order also when sorted by name."""
    return f"{ask.table}-{ask.format}-{number:06}.{kind.format.suffix}"


def _begun(folder: Path, ask: Ask) -> list[Step]:
    """The parts that are there. Raises InvalidExport for another export's."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / UNFINISHED
    if not path.exists():
        put(path, msgspec.json.encode(ask) + b"\n")
        return []
    # What comes after the last line's end was not written to the end.
    first, *lines = path.read_bytes().split(b"\n")[:-1]
    _refuse_others(folder, msgspec.json.decode(first, type=Ask), ask)
    put(path, b"\n".join([first, *lines]) + b"\n")
    return [msgspec.json.decode(line, type=Step) for line in lines]


def _note(folder: Path, step: Step) -> None:
    with (folder / UNFINISHED).open("ab") as file:
        file.write(msgspec.json.encode(step) + b"\n")
        close(file)


def _finished(folder: Path, ask: Ask) -> Manifest | None:
    if not (folder / MANIFEST).exists():
        return None
    found = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    _refuse_others(folder, found.export, ask)
    return found


def _refuse_others(folder: Path, found: Ask, ask: Ask) -> None:
    if found != ask:
        raise InvalidExport(f"{folder} holds another export; name a folder of its own.")


def put(path: Path, data: bytes) -> None:
    """All of it or nothing, on the disk."""
    draft = path.with_name(f"{path.name}{DRAFT}")
    with draft.open("wb") as file:
        file.write(data)
        close(file)
    draft.replace(path)


def close(file: IO[bytes]) -> None:
    """When its bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())
    file.close()
