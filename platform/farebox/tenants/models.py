"""Organizations, projects and the people in them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model

# Left out of an INSERT, which may not name the column: the application's role cannot write it.
_UNSAID = text("NULL")


class Organization(Model):
    """A tenant: it owns projects, a balance and an invoice.

    `max_…` and `allowed_models` are its ceilings, which the operator sets. Where one is NULL, the setting of
    its name holds, and every model is allowed.
    """

    __tablename__ = "organization"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'suspended')", name="status"),
        CheckConstraint(
            "max_requests_per_minute >= 0 AND max_tokens_per_minute >= 0 AND max_concurrent_requests >= 0"
            " AND max_projects >= 0 AND max_keys >= 0",
            name="ceilings",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text, server_default="active")
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    max_requests_per_minute: Mapped[int | None] = mapped_column(server_default=_UNSAID)
    max_tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger, server_default=_UNSAID)
    max_concurrent_requests: Mapped[int | None] = mapped_column(server_default=_UNSAID)
    max_projects: Mapped[int | None] = mapped_column(server_default=_UNSAID)
    max_keys: Mapped[int | None] = mapped_column(server_default=_UNSAID)
    allowed_models: Mapped[list[str] | None] = mapped_column(ARRAY(Text), server_default=_UNSAID)


class User(Model):
    """A person; belongs to organizations through memberships."""

    __tablename__ = "app_user"
    __table_args__ = (CheckConstraint("email = lower(email)", name="email_lower"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    email_verified_at: Mapped[datetime | None] = mapped_column(MOMENT)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class Membership(Model):
    """A user's role in an organization: owner, admin or member."""

    __tablename__ = "membership"
    __table_args__ = (
        CheckConstraint("role IN ('owner', 'admin', 'member')", name="role"),
        Index("ix_membership_user_id", "user_id"),
    )

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[UUID] = mapped_column(ForeignKey("app_user.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class Project(Model):
    """A part of an organization with keys, limits and usage of its own."""

    __tablename__ = "project"
    __table_args__ = (UniqueConstraint("organization_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    archived_at: Mapped[datetime | None] = mapped_column(MOMENT)


class ServiceAccount(Model):
    """A program that holds keys in a project, independent of any person."""

    __tablename__ = "service_account"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        ForeignKeyConstraint(
            ["organization_id", "project_id"], ["project.organization_id", "project.id"], ondelete="CASCADE"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    project_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class AuditEvent(Model):
    """Who did what in an organization; written in the transaction of the action, never changed."""

    __tablename__ = "audit_event"
    __table_args__ = (Index("ix_audit_event_organization_id", "organization_id", "created_at"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    actor_id: Mapped[UUID | None]
    action: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
