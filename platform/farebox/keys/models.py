"""API keys and the keys that sign them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model


class ApiKey(Model):
    """A key as stored: its `jti`, the SHA-256 of the token, and what it may do. Never the token."""

    __tablename__ = "api_key"
    __table_args__ = (
        UniqueConstraint("token_sha256"),
        ForeignKeyConstraint(
            ["organization_id", "project_id"], ["project.organization_id", "project.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["organization_id", "service_account_id"],
            ["service_account.organization_id", "service_account.id"],
            name="fk_api_key_service_account_id",
            ondelete="CASCADE",
        ),
        CheckConstraint("length(token_sha256) = 32", name="token_sha256_length"),
        Index("ix_api_key_organization_id", "organization_id", "project_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    project_id: Mapped[UUID]
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("app_user.id", ondelete="SET NULL"))
    service_account_id: Mapped[UUID | None]
    name: Mapped[str] = mapped_column(Text)
    token_sha256: Mapped[bytes] = mapped_column(BYTEA)
    last_four: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    models: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    revoked_at: Mapped[datetime | None] = mapped_column(MOMENT)
    last_used_at: Mapped[datetime | None] = mapped_column(MOMENT)


class SigningKey(Model):
    """An Ed25519 key pair; the private half is sealed with the operator's secret key."""

    __tablename__ = "signing_key"
    __table_args__ = (CheckConstraint("purpose IN ('api_key', 'receipt')", name="purpose"),)

    kid: Mapped[str] = mapped_column(Text, primary_key=True)
    purpose: Mapped[str] = mapped_column(Text)
    public_key: Mapped[bytes] = mapped_column(BYTEA)
    private_key_sealed: Mapped[bytes] = mapped_column(BYTEA)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    retired_at: Mapped[datetime | None] = mapped_column(MOMENT)
