"""Work for later, written in the transaction that calls for it and done by the worker."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, Text, func, insert
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model


class OutboxItem(Model):
    """One deed to do at least once; its handler must bear being called twice."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_next_attempt_at", "next_attempt_at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    topic: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    last_error: Mapped[str | None] = mapped_column(Text)


async def post(session: AsyncSession, topic: str, payload: dict[str, Any]) -> None:
    """Add a deed to the outbox; it is done only if this transaction commits."""
    await session.execute(insert(OutboxItem).values(topic=topic, payload=payload).inline())
