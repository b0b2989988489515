"""The price book and the ledger."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import CHAR, CheckConstraint, ForeignKey, Index, Numeric, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model

UNIT_PRICE = Numeric(20, 6)


class ModelOffer(Model):
    """A model that customers may call, and the folder its weights come from."""

    __tablename__ = "model"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(Text)
    owned_by: Mapped[str] = mapped_column(Text)
    context_length: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    removed_at: Mapped[datetime | None] = mapped_column(MOMENT)


class Price(Model):
    """What a million tokens of each class cost from a date on. Never changed: a new row follows."""

    __tablename__ = "price"
    __table_args__ = (
        UniqueConstraint("model_id", "effective_from"),
        CheckConstraint(
            "input_per_million >= 0 AND cached_input_per_million >= 0 AND output_per_million >= 0",
            name="not_negative",
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("model.id"))
    input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    cached_input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    output_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    currency: Mapped[str] = mapped_column(CHAR(3))
    effective_from: Mapped[datetime] = mapped_column(MOMENT)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class LedgerTransfer(Model):
    """An amount moved from one account to another: double entry in one immutable row.

    Its `id` is the caller's: made from the `reference`, which is unique within the organization, or from the
    id of the request (`farebox_leg`). So a retry adds nothing.
    """

    __tablename__ = "ledger_transfer"
    __table_args__ = (
        UniqueConstraint("organization_id", "reference"),
        CheckConstraint(
            "kind IN ('top_up', 'usage', 'refund', 'adjustment', 'grant', 'expiry', 'application', 'fee',"
            " 'payment', 'tax', 'processor_fee', 'dispute', 'rounding')",
            name="kind",
        ),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint("debit_account <> credit_account", name="accounts"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    request_id: Mapped[UUID | None]
    kind: Mapped[str] = mapped_column(Text)
    debit_account: Mapped[str] = mapped_column(Text)
    credit_account: Mapped[str] = mapped_column(Text)
    amount: Mapped[Decimal] = mapped_column(Numeric(30, 12))
    currency: Mapped[str] = mapped_column(CHAR(3))
    reference: Mapped[str | None] = mapped_column(Text)
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class PromotionalGrant(Model):
    """Credit that was given; `remaining` is what was left of it when a grant was last added or expired.

    Its `id` is that of the transfer that gave it. It is closed when it has expired, and nothing is left.
    """

    __tablename__ = "promotional_grant"
    __table_args__ = (
        CheckConstraint("amount > 0 AND remaining BETWEEN 0 AND amount", name="amount"),
        Index("ix_promotional_grant_organization_id", "organization_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    amount: Mapped[Decimal] = mapped_column(Numeric(30, 12))
    remaining: Mapped[Decimal] = mapped_column(Numeric(30, 12))
    currency: Mapped[str] = mapped_column(CHAR(3))
    reference: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    expires_at: Mapped[datetime | None] = mapped_column(MOMENT)
    closed_at: Mapped[datetime | None] = mapped_column(MOMENT)
