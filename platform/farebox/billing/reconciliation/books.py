"""What a comparison of the books is given, and what it finds."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

# Of one check; of more, the number is told.
MAX_NAMED = 1_000


@dataclass(frozen=True)
class Books:
    """All books at one moment, of all organizations or of one, in a span of time or in all of it.

    What has no date, as a balance, is compared whatever the span.
    """

    connection: "asyncpg.Connection[Any]"
    organization_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None


class Difference(msgspec.Struct, frozen=True):
    """Two books that should say the same and do not: of what (ids by name), and what each says."""

    of: dict[str, str]
    says: dict[str, str]


class Finding(msgspec.Struct, frozen=True):
    """What a check found: the first MAX_NAMED differences, and how many there are."""

    check: str
    count: int
    differences: list[Difference]


# A check's name is its function's.
Check: TypeAlias = Callable[[Books], Awaitable[Finding]]


async def compare(
    books: Books, name: str, statement: str, of: tuple[str, ...], *arguments: object
) -> Finding:
    """Differences as a statement finds them: it has the columns `of` that name what differs, what each book
    says, and `differences`, their number."""
    rows = await books.connection.fetch(f"{statement} LIMIT {MAX_NAMED}", *arguments)
    differences = [
        Difference(
            {column: told(row[column]) for column in of},
            {
                column: told(value)
                for column, value in row.items()
                if column not in of and column != "differences"
            },
        )
        for row in rows
    ]
    return Finding(name, rows[0]["differences"] if rows else 0, differences)


def told(value: object) -> str:
    """A value for people; ids in hex."""
    match value:
        case None:
            return "nothing"
        case UUID():
            return value.hex
        case datetime():
            return value.isoformat()
    return str(value)
