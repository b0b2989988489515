"""Signed-in browsers, one-time links, and who has guessed too often."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model


class UserSession(Model):
    """A signed-in browser. Only the SHA-256 of the cookie's token is stored."""

    __tablename__ = "user_session"
    __table_args__ = (Index("ix_user_session_user_id", "user_id"),)

    token_sha256: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("app_user.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(MOMENT)


class EmailToken(Model):
    """A one-time link sent by e-mail, for verifying an address or resetting a password."""

    __tablename__ = "email_token"
    __table_args__ = (
        CheckConstraint("purpose IN ('verify', 'reset')", name="purpose"),
        Index("ix_email_token_user_id", "user_id"),
    )

    token_sha256: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("app_user.id", ondelete="CASCADE"))
    purpose: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(MOMENT)


class SignInThrottle(Model):
    """Failed sign-ins of one account or one address; the subject is a hash of either."""

    __tablename__ = "sign_in_throttle"

    subject: Mapped[bytes] = mapped_column(BYTEA, primary_key=True)
    failures: Mapped[int]
    blocked_until: Mapped[datetime] = mapped_column(MOMENT)
    updated_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
