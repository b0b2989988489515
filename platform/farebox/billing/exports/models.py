"""Exports that customers have asked for."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model


class Export(Model):
    """An export: what of, how far it is, and what it came to. `listing` is `usage` or `cost`.

    `section` and `section_row` say where the next part begins (`stream.Place`).
    """

    __tablename__ = "export"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        CheckConstraint("status IN ('queued', 'running', 'completed', 'failed')", name="status"),
        CheckConstraint("starts_at < ends_at", name="period"),
        CheckConstraint("rows_per_part > 0", name="rows_per_part"),
        Index("ix_export_organization_id", "organization_id", "created_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    listing: Mapped[str] = mapped_column(Text)
    format: Mapped[str] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(MOMENT)
    ends_at: Mapped[datetime] = mapped_column(MOMENT)
    rows_per_part: Mapped[int]
    status: Mapped[str] = mapped_column(Text, server_default="queued")
    section: Mapped[int] = mapped_column(server_default="0")
    section_row: Mapped[int] = mapped_column(BigInteger, server_default="0")
    rows: Mapped[int] = mapped_column(BigInteger, server_default="0")
    parts: Mapped[int] = mapped_column(server_default="0")
    sums: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    failure: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    completed_at: Mapped[datetime | None] = mapped_column(MOMENT)


class ExportPart(Model):
    """A part that is whole. `size` is in bytes; the content is read only by who downloads it."""

    __tablename__ = "export_part"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "export_id"], ["export.organization_id", "export.id"], ondelete="CASCADE"
        ),
    )

    export_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    rows: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(Text)
    sums: Mapped[dict[str, Any]] = mapped_column(JSONB)
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
