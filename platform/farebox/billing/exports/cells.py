"""Lines of CSV (RFC 4180) that Python writes: the short tables. The long ones are Postgres's (`query`)."""

import csv
import io
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

Cell = str | int | Decimal | date | None


def csv_lines(rows: Sequence[Sequence[Cell]]) -> bytes:
    """Numbers stay numbers; an apostrophe is put before texts that a spreadsheet would take for formulas."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_spelled(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _spelled(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Decimal):
        return format(cell, "f")
    if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{cell}"
    return str(cell)
