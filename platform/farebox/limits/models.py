"""The row that says what an organization, a project or a key may still do."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    CHAR,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Numeric,
    Text,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model

MONEY = Numeric(30, 12)


class MeterScope(Model):
    """Limits and their present state, under the id of the organization, project or key itself.

    A limit that is NULL: for a project, the operator's default applies; for the others, none does.
    `request_level` and `token_level` are what is left in the two token buckets as of `refilled_at`.
    `active` and `reserved` always equal the count and the sum of the scope's holds. Only an
    organization has a `balance`, kept in the `currency` of its first top-up; `promotional` is the part of it
    that was given, `credit_line` how far below zero it may fall. `plan_id` is its
    plan, whose prices apply. The application role may write the four limits and nothing else.
    """

    __tablename__ = "meter_scope"
    __table_args__ = (
        CheckConstraint("kind IN ('organization', 'project', 'key')", name="kind"),
        CheckConstraint("(balance IS NULL) = (kind <> 'organization')", name="balance_kind"),
        CheckConstraint("promotional >= 0 AND credit_line >= 0", name="credit"),
        CheckConstraint("currency IS NULL OR kind = 'organization'", name="currency"),
        CheckConstraint("active >= 0", name="active"),
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint(
            "requests_per_minute >= 0 AND tokens_per_minute >= 0"
            " AND concurrent_requests >= 0 AND monthly_cap >= 0",
            name="limits",
        ),
        Index("ix_meter_scope_organization_id", "organization_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organization.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(Text)
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    concurrent_requests: Mapped[int | None]
    monthly_cap: Mapped[Decimal | None] = mapped_column(MONEY)
    request_level: Mapped[float | None] = mapped_column(Double)
    token_level: Mapped[float | None] = mapped_column(Double)
    refilled_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    active: Mapped[int] = mapped_column(server_default="0")
    reserved: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    spend_month: Mapped[date] = mapped_column(
        server_default=text("date_trunc('month', (now() AT TIME ZONE 'UTC'))")
    )
    spent: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    balance: Mapped[Decimal | None] = mapped_column(MONEY)
    promotional: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    credit_line: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    plan_id: Mapped[UUID | None]
    currency: Mapped[str | None] = mapped_column(CHAR(3))
