"""Lists that may be long, a part on a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from litestar.params import QueryParameter

ROWS = 50

T = TypeVar("T")

PartNumber = Annotated[int, QueryParameter(ge=1, le=100_000)]


@dataclass(frozen=True)
class Part(Generic[T]):
    """Some rows of a list. `number` counts the parts from 1, `more` tells whether there are others after."""

    rows: Sequence[T]
    number: int
    more: bool


def first_row(number: int) -> int:
    """How many rows are on the parts before."""
    return (number - 1) * ROWS


def part(rows: Sequence[T], number: int) -> Part[T]:
    """Of the rows from `first_row(number)` on: one more than ROWS is enough to know of others after."""
    return Part(rows[:ROWS], number, len(rows) > ROWS)
