"""What an export consists of: columns, the queries that make its rows, and sums that the ledger must have.

A query makes its rows in an order that is the same each time, so that an interrupted export goes on at a row.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

Type = Literal["text", "money", "unit_price", "quantity", "count", "moment", "date"]


@dataclass(frozen=True)
class Column:
    """A column of an export. `value` is SQL over the columns that the layout's queries offer."""

    name: str
    value: str
    type: Type = "text"


@dataclass(frozen=True)
class Period:
    """[start, end): whole hours in UTC that are over."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Layout:
    """A table of rows, in sections that follow one another.

    The first columns are the `measures`, which are summed, of twelve decimals each; then come the `keys`,
    by which they are summed, the currency among them: plain words that no format has to quote.
    `sections` have the placeholders `$1` and `$2` for the period, `$3` for the organization or NULL for all.
    Columns may name `$5`, the provider; `$4` is the row to begin at.
    `expected` gives the keys and then the measures as the ledger has them, for `$1` to `$3`.
    """

    measures: tuple[Column, ...]
    keys: tuple[Column, ...]
    columns: tuple[Column, ...]
    sections: tuple[str, ...]
    expected: str

    @property
    def all_columns(self) -> tuple[Column, ...]:
        return (*self.measures, *self.keys, *self.columns)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.all_columns]


@dataclass(frozen=True)
class Source:
    """Whose rows, and of when."""

    period: Period
    organization_id: UUID | None
    provider: str
