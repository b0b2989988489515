"""How reports read: within a time, up to a number of results, and without holding up the event loop."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy import Select, Text, TextClause, cast, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import COMMAND_TIMEOUT_SECONDS, Database, StatementCancelled, end_after
from farebox.usage.errors import MAX_RESULTS, ReportTooLarge, ReportTooSlow

# Before the driver gives Postgres up: that a report takes long is another thing than that nobody answers.
REPORT_SECONDS = COMMAND_TIMEOUT_SECONDS * 2 / 3

T = TypeVar("T", bound=msgspec.Struct)


@asynccontextmanager
async def report_transaction(
    database: Database, organization_id: UUID, user_id: UUID | None = None
) -> AsyncIterator[AsyncSession]:
    """A transaction to read reports in. Raises ReportTooSlow and Unavailable."""
    try:
        async with database.transaction(organization_id=organization_id, user_id=user_id) as session:
            await end_after(session, REPORT_SECONDS)
            yield session
    except StatementCancelled as error:
        raise ReportTooSlow from error


class Rows(Generic[T]):
    """What was read, as Postgres wrote it down: one JSON document, however many rows there are.

    A row read by the driver and built here costs the event loop 12 µs, and so a page of 10,000 an eighth of
    a second.
    """

    def __init__(self, document: str | None, kind: type[T]) -> None:
        self._document = document
        self._decoder = msgspec.json.Decoder(kind)

    def build(self) -> list[T]:
        """The rows, 2 µs each: to be called in a thread where there may be thousands.

        One by one, so that other threads can have the interpreter in between.
        """
        if self._document is None:
            return []
        rows = msgspec.json.decode(self._document, type=list[msgspec.Raw])
        return [self._decoder.decode(row) for row in rows]


async def read_rows(
    session: AsyncSession,
    query: Select[Any] | TextClause,
    kind: type[T],
    values: Mapping[str, Any] | None = None,
) -> Rows[T]:
    """What a query finds, whose columns are the fields of `kind`. Raises ReportTooLarge."""
    if isinstance(query, TextClause):
        query = select(text("*")).select_from(text(f"({query.text}) AS listed"))  # noqa: S608  our own text
    found = query.limit(MAX_RESULTS + 1).subquery("found")
    document = cast(func.json_agg(literal_column("found")), Text)
    rows = select(func.count(), document).select_from(found)
    count, written = (await session.execute(rows, values)).one()
    if count > MAX_RESULTS:
        raise ReportTooLarge
    return Rows(written, kind)
