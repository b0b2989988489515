"""A layout's sections as the statements that Postgres copies out, in the words of a format.

asyncpg's `copy_from_query` takes `COPY (…) TO STDOUT`: Postgres writes the text, and Python moves bytes.
"""

import re
from typing import Literal

from farebox.billing.exports.cells import FORMULA_AHEAD, FORMULA_WITHIN
from farebox.billing.exports.layouts.layout import Column, Layout, Type

Words = Literal["csv", "plain", "json"]

_TEXT = re.compile(r"\{text:([^}]+)\}")
_TYPES: dict[Type, str] = {
    "text": "text",
    "money": "numeric(38, 12)",
    "unit_price": "numeric(38, 18)",
    "quantity": "numeric(38, 12)",
    "count": "bigint",
    "date": "date",
    "moment": "text",
}


def section_query(layout: Layout, section: int, words: Words) -> str:
    """A section's rows, from `$4` on.

    `csv` is for spreadsheets, which take some texts for formulas; `plain` is the same without that care, and
    `json` an object a row.
    """
    columns = ", ".join(f'{_value(column)} AS "{column.name}"' for column in layout.all_columns)
    rows = f"SELECT {columns} FROM ({layout.sections[section]}) s OFFSET $4"  # noqa: S608
    query = f"SELECT row_to_json(j) FROM ({rows}) j" if words == "json" else rows  # noqa: S608
    return _TEXT.sub(lambda match: _text(match.group(1), words), query)


def plain_text(query: str) -> str:
    """A query whose texts are as they are, but for line breaks."""
    return _TEXT.sub(lambda match: _text(match.group(1), "plain"), query)


def _value(column: Column) -> str:
    if column.type == "moment":
        # The connection is in UTC and writes ISO 8601 but for these letters: a tenth of what `to_char` costs.
        return f"replace(left(({column.value})::text, 19), ' ', 'T') || 'Z'"
    return f"({column.value})::{_TYPES[column.type]}"


def _text(value: str, words: Words) -> str:
    """A text without line breaks, so that a line is a row; an empty one is no value.

    For spreadsheets an apostrophe is put before what they would take for a formula.
    """
    line = f"nullif(translate({value}, E'\\r\\n', '  '), '')"
    within = f"regexp_replace({line}, '{FORMULA_WITHIN}', '\\1''\\2', 'g')"
    match words:
        case "json":
            return f"nullif({value}, '')"
        case "csv":
            return (
                f"CASE WHEN {value} !~ '{FORMULA_AHEAD}|{FORMULA_WITHIN}' THEN {line}"
                f" WHEN {value} ~ '{FORMULA_AHEAD}' THEN '''' || {within} ELSE {within} END"
            )
    return line
