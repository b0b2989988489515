"""Parts: cut to a size, named in order, whole or not there; an interrupted export goes on."""

import hashlib
from pathlib import Path

import pytest

from farebox.billing.exports.errors import InvalidExport
from farebox.billing.exports.folder import UNFINISHED
from farebox.billing.exports.kinds import KINDS
from farebox.billing.exports.manifest import Ask, Manifest, Step
from farebox.core.database import Database
from tests.billing.exports.history import History
from tests.billing.exports.reading import ask, export, rows_of


class Stopped(Exception):
    """As if the process had been killed."""


@pytest.fixture
async def history(history: History) -> History:
    await history.of_everything()
    return history


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def same(whole: Manifest, made: Manifest) -> bool:
    return (made.rows, made.sums, [part.sha256 for part in made.parts]) == (
        whole.rows, whole.sums, [part.sha256 for part in whole.parts],
    )  # fmt: skip


async def stop_after(parts: int, database: Database, asked: Ask, folder: Path) -> list[Step]:
    """An export that ends after so many parts; which they were."""
    seen: list[Step] = []

    def stop(step: Step) -> None:
        seen.append(step)
        if len(seen) == parts:
            raise Stopped

    with pytest.raises(Stopped):
        await export(database, asked, folder, watch=stop)
    return seen


@pytest.mark.parametrize("size", [1, 2, 5, 20, 21, 22])
async def test_parts_have_so_many_rows_and_come_to_the_whole(
    database: Database, history: History, tmp_path: Path, size: int
) -> None:
    whole = await export(database, ask(history.account), tmp_path / "whole")
    made = await export(database, ask(history.account, rows_per_part=size), tmp_path / "parts")
    assert whole.rows == 21
    assert [part.rows for part in made.parts] == [
        min(size, whole.rows - start) for start in range(0, whole.rows, size)
    ]
    assert rows_of(tmp_path / "parts", made) == rows_of(tmp_path / "whole", whole)
    assert made.sums == whole.sums
    names = [part.name for part in made.parts]
    assert names == sorted(names)
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {*names, "manifest.json"}
    for part in made.parts:
        path = tmp_path / "parts" / part.name
        assert (digest(path), path.stat().st_size) == (part.sha256, part.bytes)


async def test_parts_have_no_more_bytes_than_asked_unless_a_row_has(
    database: Database, history: History, tmp_path: Path
) -> None:
    made = await export(database, ask(history.account, bytes_per_part=2500), tmp_path)
    assert len(made.parts) > 3
    assert all(part.bytes <= 2500 for part in made.parts)
    tiny = await export(database, ask(history.account, bytes_per_part=1), tmp_path / "tiny")
    assert [part.rows for part in tiny.parts] == [1] * 21


@pytest.mark.parametrize("format_", [name for table, name in KINDS if table == "cost"])
@pytest.mark.parametrize("after", [1, 3, 4])
async def test_an_interrupted_export_goes_on_where_it_stopped(
    database: Database, history: History, tmp_path: Path, format_: str, after: int
) -> None:
    asked = ask(history.account, format_=format_, rows_per_part=3)
    whole = await export(database, asked, tmp_path / "whole")

    folder = tmp_path / "stopped"
    seen = await stop_after(after, database, asked, folder)
    assert not (folder / "manifest.json").exists()
    again: list[Step] = []
    made = await export(database, asked, folder, watch=again.append)
    assert [step.part.name for step in seen + again] == [part.name for part in whole.parts]
    assert same(whole, made) or format_.endswith("parquet")
    assert (made.rows, made.sums) == (whole.rows, whole.sums)
    assert not (folder / UNFINISHED).exists()


async def test_a_part_that_was_half_written_is_written_anew(
    database: Database, history: History, tmp_path: Path
) -> None:
    asked = ask(history.account, rows_per_part=4)
    whole = await export(database, asked, tmp_path / "whole")
    folder = tmp_path / "torn"
    await stop_after(2, database, asked, folder)
    (folder / ".part").write_bytes(b"half a ro")
    with (folder / UNFINISHED).open("ab") as file:
        file.write(b'{"part":{"name":"cost-foc')
    assert same(whole, await export(database, asked, folder))


async def test_a_finished_export_is_told_again(database: Database, history: History, tmp_path: Path) -> None:
    asked = ask(history.account, rows_per_part=6)
    made = await export(database, asked, tmp_path)
    assert await export(database, asked, tmp_path) == made


async def test_a_folder_is_of_one_export(database: Database, history: History, tmp_path: Path) -> None:
    await export(database, ask(history.account), tmp_path)
    with pytest.raises(InvalidExport, match="holds another export"):
        await export(database, ask(history.account, rows_per_part=1), tmp_path)
    unfinished = tmp_path / "unfinished"
    asked = ask(history.account, rows_per_part=1)
    await stop_after(1, database, asked, unfinished)
    with pytest.raises(InvalidExport, match="holds another export"):
        await export(database, ask(history.account), unfinished)
