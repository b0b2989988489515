"""How reports read: within a time, up to a number of results, and without holding up the event loop."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import COMMAND_TIMEOUT_SECONDS, Database, StatementCancelled, end_after
from farebox.usage.errors import MAX_RESULTS, ReportTooLarge, ReportTooSlow

# Before the driver gives Postgres up: that a report takes long is another thing than that nobody answers.
REPORT_SECONDS = COMMAND_TIMEOUT_SECONDS * 2 / 3

# Results that are built at a time, between which the event loop serves others: two milliseconds.
_SLICE = 500

T = TypeVar("T")


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


async def read_all(
    session: AsyncSession, query: Executable, make: Callable[..., T], values: Mapping[str, Any] | None = None
) -> list[T]:
    """What `make` makes of each row, whose columns are its arguments. Raises ReportTooLarge."""
    found: list[T] = []
    result = await session.stream(query, values)
    async for rows in result.mappings().partitions(_SLICE):
        found += [make(**row) for row in rows]
        if len(found) > MAX_RESULTS:
            raise ReportTooLarge
    return found
