"""Work for later, written in the transaction that calls for it and done by the worker."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Text, func, insert, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Database, Model
from farebox.core.settings import Settings

# What does the items of one topic, given their payload. It must bear being called twice.
Handler = Callable[[Database, Settings, dict[str, Any]], Awaitable[None]]

# Claimed by moving its next attempt past the lease: no transaction stays open while a mail is sent.
_CLAIM = text("""
UPDATE outbox SET attempts = attempts + 1, next_attempt_at = now() + make_interval(secs => :lease)
WHERE id IN (
    SELECT id FROM outbox o WHERE next_attempt_at <= now() AND NOT EXISTS (
        -- One at a time, in their order. What was given up holds nobody up.
        SELECT FROM outbox before
        WHERE before.serial_key = o.serial_key AND before.id < o.id AND before.next_attempt_at < 'infinity'
    )
    ORDER BY next_attempt_at LIMIT :batch FOR UPDATE SKIP LOCKED
)
RETURNING id, topic, payload, attempts, extract(epoch FROM now() - created_at)::float8 AS age_seconds
""")
_DONE = text("DELETE FROM outbox WHERE id = :id")
# No pause means never: the item stays for the operator to see, with its error.
_FAILED = text("""
UPDATE outbox SET last_error = :error,
    next_attempt_at = coalesce(now() + make_interval(secs => :pause), 'infinity')
WHERE id = :id
""")
_OVERDUE = text("""
SELECT topic, count(*) AS items FROM outbox
WHERE created_at <= now() - make_interval(secs => :age) AND attempts > 0 GROUP BY topic
""")
_RETRY = text("UPDATE outbox SET attempts = 0, next_attempt_at = now() WHERE next_attempt_at = 'infinity'")
# What was tried and is not done by then is worth an alarm.
OVERDUE_SECONDS = 3600.0


class OutboxItem(Model):
    """One job to do at least once; its handler must bear being called twice.

    Of the items with the same `serial_key` one is done at a time, in the order of their posting.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_next_attempt_at", "next_attempt_at"),
        Index("ix_outbox_serial_key", "serial_key", "id", postgresql_where=text("serial_key IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    topic: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    last_error: Mapped[str | None] = mapped_column(Text)
    serial_key: Mapped[str | None] = mapped_column(Text)


@dataclass(frozen=True)
class ClaimedItem:
    """An outbox item that one worker has to itself for a while; `attempt` counts from 1.

    `age_seconds` is since it was posted.
    """

    id: int
    topic: str
    payload: dict[str, Any]
    attempt: int
    age_seconds: float = 0.0

    @property
    def overdue(self) -> bool:
        return self.age_seconds >= OVERDUE_SECONDS


async def post(
    session: AsyncSession, topic: str, payload: dict[str, Any], *, serial_key: str | None = None
) -> None:
    """Add an item to the outbox; it is done only if this transaction commits.

    It waits for those that were posted before with the same `serial_key`.
    """
    values = {"topic": topic, "payload": payload} | ({"serial_key": serial_key} if serial_key else {})
    await session.execute(insert(OutboxItem).values(values).inline())


async def claim(session: AsyncSession, *, limit: int, lease_seconds: float) -> list[ClaimedItem]:
    """Up to `limit` due items, which nobody else gets until their lease has run out.

    This and what follows works under `Database.meter_transaction()`.
    """
    rows = await session.execute(_CLAIM, {"lease": lease_seconds, "batch": limit})
    return [ClaimedItem(row.id, row.topic, row.payload, row.attempts, row.age_seconds) for row in rows]


async def finish(session: AsyncSession, item: ClaimedItem) -> None:
    """Remove an item that is done."""
    await session.execute(_DONE, {"id": item.id})


async def postpone(
    session: AsyncSession, item: ClaimedItem, *, error: str, pause_seconds: float | None
) -> None:
    """Note why an item failed, and when it is due again; given no pause, it is given up."""
    await session.execute(_FAILED, {"id": item.id, "error": error, "pause": pause_seconds})


async def retry_given_up(session: AsyncSession) -> None:
    """Make due what was given up, with all its attempts."""
    await session.execute(_RETRY)


async def count_given_up(session: AsyncSession) -> tuple[int, str | None]:
    """How many items were given up, and the error of one of them."""
    given_up = OutboxItem.next_attempt_at == text("'infinity'")
    query = select(func.count(), func.max(OutboxItem.last_error)).where(given_up)
    count, error = (await session.execute(query)).one()
    return count, error


async def count_overdue(session: AsyncSession) -> dict[str, int]:
    """How many items of each topic were tried and are still not done after OVERDUE_SECONDS."""
    rows = await session.execute(_OVERDUE, {"age": OVERDUE_SECONDS})
    return {row.topic: row.items for row in rows}
