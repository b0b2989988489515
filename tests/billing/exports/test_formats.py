"""Rows in each format, read by other people's readers."""

import copy
import csv
import io
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet
import pytest
from sqlalchemy import update

from farebox.billing.exports.cells import csv_lines
from farebox.billing.exports.errors import InvalidExport
from farebox.billing.exports.folder import FolderShelf, source_of
from farebox.billing.exports.formats import PARQUET, ParquetWriter
from farebox.billing.exports.kinds import kind_of
from farebox.billing.exports.stream import Cut, reading, write_parts
from farebox.core.database import Database
from farebox.tenants.models import Organization, Project
from tests.billing.exports.history import START, History
from tests.billing.exports.reading import ask, export, rows_of

# What a spreadsheet would take for a formula, and what would break a line or a cell.
FORMULAS = {
    "=1+1": "'=1+1",
    "+1": "'+1",
    "-1": "'-1",
    "@SUM(A1)": "'@SUM(A1)",
    "\t=1": "'\t'=1",
    "\r=1": "' =1",
    " =1": "' =1",
    "\tone": "'\tone",
    "a;=1": "a;'=1",
    "a\t@x;b": "a\t'@x;b",
    "=a, +1;\t-2": "'=a, '+1;\t'-2",
}
ODD = ['a "quoted", name', "two\r\nlines", "ünïcode 模型", "'tis", "a=1", "a-b; c"]


async def name(database: Database, history: History, called: str) -> None:
    async with database.transaction(organization_id=history.account.organization_id) as session:
        await session.execute(update(Organization).values(name=called))
        await session.execute(update(Project).values(name=called))


@pytest.mark.parametrize("called", [*FORMULAS, *ODD])
async def test_csv_is_whole_and_begins_no_formula(
    database: Database, history: History, tmp_path: Path, called: str
) -> None:
    await name(database, history, called)
    await history.move(0, "top_up", "cash", "prepaid", "5", reference=called)
    await history.use(1)
    for format_ in ("csv", "focus"):
        folder = tmp_path / format_
        made = await export(database, ask(history.account, "cost", format_), folder)
        for row in rows_of(folder, made):
            texts = [
                row[each] for each in row if each.lower().endswith(("name", "organization", "reference"))
            ]
            plain = called.replace("\r", " ").replace("\n", " ")
            expected = FORMULAS.get(called, plain)
            assert {text for text in texts if text} <= {expected, "Acme Models", "Model API"}
            assert expected in texts
            assert Decimal(row.get("amount") or row["BilledCost"]) < 6, "numbers stay numbers"
        raw = (folder / made.parts[0].name).read_bytes()
        assert raw.count(b"\r\n") == raw.count(b"\n") == made.rows + 1, "RFC 4180: lines end in CR LF"


def test_short_tables_begin_no_formula_either() -> None:
    cells = [*FORMULAS, *ODD]
    (read,) = csv.reader(io.StringIO(csv_lines([cells]).decode(), newline=""))
    expected = [*FORMULAS.values(), *ODD]
    assert [cell.replace("\r=", " =") for cell in read] == expected
    assert csv_lines([[Decimal(-5), -1]]) == b"-5,-1\r\n", "numbers stay numbers"


@pytest.mark.parametrize("called", ["=1+1", 'a "quoted", name', "two\r\nlines", "\x01\x02\\N\\.", "ünïcode"])
async def test_json_lines_have_texts_as_they_are(
    database: Database, history: History, tmp_path: Path, called: str
) -> None:
    await name(database, history, called)
    await history.use(1)
    (row,) = rows_of(tmp_path, await export(database, ask(history.account, "usage", "jsonl"), tmp_path))
    assert row["organization"] == row["project"] == called
    assert (row["quantity"], row["hour"]) == (1000, "2026-03-30T01:00:00Z")


async def test_an_amount_keeps_every_digit_in_every_format(
    database: Database, history: History, tmp_path: Path
) -> None:
    amount = await history.use(1, input_tokens=999_999_937, price=("999999.999983", "0", "0"))
    assert amount == Decimal("999999936.983000001071")
    for format_ in ("csv", "jsonl", "parquet"):
        folder = tmp_path / format_
        made = await export(database, ask(history.account, "usage", format_), folder)
        if format_ == "parquet":
            (value,) = read_parquet(folder / made.parts[0].name)["amount"]
        elif format_ == "jsonl":
            line = (folder / made.parts[0].name).read_text()
            value = Decimal(line.split('"amount":')[1].split(",")[0])
        else:
            value = Decimal(rows_of(folder, made)[0]["amount"])
        assert value == amount, format_


def read_parquet(path: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pyarrow.parquet.read_table(path).to_pydict()
    return columns


async def test_parquet_has_the_same_rows_with_types(
    database: Database, history: History, tmp_path: Path
) -> None:
    await history.of_everything()
    texts = rows_of(tmp_path / "c", await export(database, ask(history.account), tmp_path / "c"))
    folder = tmp_path / "p"
    made = await export(database, ask(history.account, "cost", "focus-parquet"), folder)
    columns = read_parquet(folder / made.parts[0].name)
    assert [Decimal(row["BilledCost"]) for row in texts] == columns["BilledCost"]
    assert columns["ChargePeriodStart"][0] == datetime(2026, 3, 30, 1, tzinfo=UTC)
    assert columns["InvoiceId"] == [None] * len(texts), "null, and no empty text"
    assert [row["x_Reference"] for row in texts if row["x_Reference"]][0] == "Pro plan, 2026-03, prepaid"
    assert "=receipt 1" in columns["x_Reference"], "no spreadsheet reads Parquet as text"
    kind = pyarrow.parquet.read_schema(folder / made.parts[0].name).field("BilledCost").type
    assert str(kind) == "decimal128(38, 12)"


async def test_parquet_without_pyarrow_is_refused_with_what_to_install(
    database: Database, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidExport, match=r"pip install 'farebox\[parquet\]'"):
        await export(database, ask(history.account, "usage", "parquet"), tmp_path)


async def test_an_export_without_rows_has_a_part_with_the_columns(
    database: Database, history: History, tmp_path: Path
) -> None:
    made = await export(database, ask(history.account), tmp_path)
    assert (made.rows, made.sums) == (0, {})
    with (tmp_path / made.parts[0].name).open(newline="") as file:
        (head,) = list(csv.reader(file))
    assert head[:3] == ["BilledCost", "EffectiveCost", "BillingCurrency"]


@pytest.mark.parametrize(("table", "format_"), [("usage", "focus"), ("cost", "xls"), ("journal", "parquet")])
async def test_formats_that_there_are_not_are_refused(
    database: Database, history: History, tmp_path: Path, table: str, format_: str
) -> None:
    with pytest.raises(InvalidExport, match=f"The formats of {table} are"):
        await export(database, ask(history.account, table, format_), tmp_path)


async def test_what_lies_outside_the_period_is_not_exported(
    database: Database, history: History, tmp_path: Path
) -> None:
    for hours in (-0.01, 0, 71.99, 72):
        await history.use(hours, input_tokens=int(hours) + 100)
    made = await export(database, ask(history.account, "usage", "csv"), tmp_path)
    assert [row["quantity"] for row in rows_of(tmp_path, made)] == ["100", "171"]
    assert START.hour == 0


class ThreadsTold(ParquetWriter):
    """Parquet, and by which threads it was written."""

    seen: ClassVar[set[int]] = set()

    def write(self, lines: Sequence[bytes]) -> None:
        self.seen.add(threading.get_ident())
        super().write(lines)

    def finish(self) -> None:
        self.seen.add(threading.get_ident())
        super().finish()


async def test_parquet_is_written_beside_the_loop(
    database: Database, history: History, tmp_path: Path
) -> None:
    await history.use(1)
    told = copy.copy(PARQUET)
    told.writer = ThreadsTold
    asked = ask(history.account, "cost", "parquet")
    source = source_of(asked, "Acme Models")
    cut = Cut(kind_of("cost", "parquet").layout, told, source)
    async with reading(database.url, source) as connection:
        assert await write_parts(connection, cut, FolderShelf(tmp_path, asked, [], lambda _: None), 60)
    assert ThreadsTold.seen
    assert threading.get_ident() not in ThreadsTold.seen
