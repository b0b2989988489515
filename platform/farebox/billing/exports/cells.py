"""Lines of CSV (RFC 4180) that Python writes: the short tables. The long ones are Postgres's (`query`)."""

import csv
import io
import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

Cell = str | int | Decimal | date | None

# Where a spreadsheet splits at semicolons or tabs, a formula may begin within a cell. Python and Postgres
# read both patterns alike.
FORMULA_WITHIN = r"([;\t,]\s*)([=+@-])"
FORMULA_AHEAD = r"^(\s*[=+@-]|[\t\r])"


def csv_lines(rows: Sequence[Sequence[Cell]]) -> bytes:
    """Numbers stay numbers; an apostrophe is put before what a spreadsheet would take for a formula."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_spelled(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def _spelled(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Decimal):
        return format(cell, "f")
    return _guarded(cell) if isinstance(cell, str) else str(cell)


def _guarded(cell: str) -> str:
    ahead = "'" if re.match(FORMULA_AHEAD, cell) else ""
    return ahead + re.sub(FORMULA_WITHIN, r"\1'\2", cell)
