"""The price book and the ledger."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    CHAR,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    text,
)
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


class ModelWeights(Model):
    """Which weights a model had from a moment on: one row for each time that it was offered."""

    __tablename__ = "model_weights"

    model_id: Mapped[str] = mapped_column(Text, primary_key=True)
    offered_at: Mapped[datetime] = mapped_column(
        MOMENT, primary_key=True, server_default=func.clock_timestamp()
    )
    sha256: Mapped[str] = mapped_column(Text)


class Price(Model):
    """What a million tokens of each class cost from a date on. Never changed: a new row follows.

    It is everybody's, a plan's or one organization's, who then has no other. With a `scheme` other than
    `flat` its tiers say what each class costs, and the rates here are the dearest of them. A price that ends
    is followed by the next more general one. `item_per_million` is for classified items, reranked documents.
    """

    __tablename__ = "price"
    __table_args__ = (
        Index(
            "uq_price_effective_from",
            "model_id",
            "organization_id",
            "plan_id",
            "effective_from",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint(
            "input_per_million >= 0 AND cached_input_per_million >= 0 AND output_per_million >= 0",
            name="not_negative",
        ),
        CheckConstraint("item_per_million >= 0", name="items_not_negative"),
        CheckConstraint("scheme IN ('flat', 'graduated', 'volume', 'package')", name="scheme"),
        CheckConstraint("(scheme = 'package') = (package_tokens IS NOT NULL)", name="package"),
        CheckConstraint("package_tokens > 0", name="package_tokens"),
        CheckConstraint("organization_id IS NULL OR plan_id IS NULL", name="whose"),
        CheckConstraint("effective_until > effective_from", name="period"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("model.id"))
    input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    cached_input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    output_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    currency: Mapped[str] = mapped_column(CHAR(3))
    effective_from: Mapped[datetime] = mapped_column(MOMENT)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    organization_id: Mapped[UUID | None]
    plan_id: Mapped[UUID | None] = mapped_column(ForeignKey("plan.id"))
    effective_until: Mapped[datetime | None] = mapped_column(MOMENT)
    scheme: Mapped[str] = mapped_column(Text, server_default="flat")
    package_tokens: Mapped[int | None] = mapped_column(BigInteger)
    item_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE, server_default="0")


class PriceTier(Model):
    """From how many tokens of a class in a month on a price charges which rate."""

    __tablename__ = "price_tier"
    __table_args__ = (
        CheckConstraint("token_class IN ('input', 'cached_input', 'output')", name="token_class"),
        CheckConstraint("starts_at >= 0 AND per_million >= 0", name="not_negative"),
    )

    price_id: Mapped[UUID] = mapped_column(ForeignKey("price.id"), primary_key=True)
    token_class: Mapped[str] = mapped_column(Text, primary_key=True)
    starts_at: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)


class Plan(Model):
    """Prices, limits, a monthly fee, credit included in it and a credit line, under a name. Never changed."""

    __tablename__ = "plan"
    __table_args__ = (
        CheckConstraint(
            "monthly_fee >= 0 AND included_credit >= 0 AND credit_line >= 0", name="not_negative"
        ),
        CheckConstraint(
            "requests_per_minute >= 0 AND tokens_per_minute >= 0 AND concurrent_requests >= 0", name="limits"
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text, unique=True)
    currency: Mapped[str] = mapped_column(CHAR(3))
    monthly_fee: Mapped[Decimal] = mapped_column(Numeric(30, 12))
    included_credit: Mapped[Decimal] = mapped_column(Numeric(30, 12))
    credit_line: Mapped[Decimal] = mapped_column(Numeric(30, 12))
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    concurrent_requests: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    retired_at: Mapped[datetime | None] = mapped_column(MOMENT)


class PlanMembership(Model):
    """From when on an organization has a plan; None ends the one before."""

    __tablename__ = "plan_membership"

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="CASCADE"), primary_key=True
    )
    effective_from: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    plan_id: Mapped[UUID | None] = mapped_column(ForeignKey("plan.id"))


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
        # Of what requests move, only what is drawn on a credit line is read one by one.
        Index(
            "ix_ledger_transfer_moved",
            "organization_id",
            "created_at",
            postgresql_where=text("request_id IS NULL"),
        ),
        Index(
            "ix_ledger_transfer_drawn",
            "organization_id",
            "created_at",
            postgresql_include=["debit_account", "amount", "currency"],
            postgresql_where=text(
                "request_id IS NOT NULL AND (debit_account = 'receivable' OR credit_account = 'receivable')"
            ),
        ),
        Index("ix_ledger_transfer_created_at", "created_at", postgresql_using="brin"),
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


class Reconciliation(Model):
    """A day on which the books were compared, and how many differences were found the last time."""

    __tablename__ = "reconciliation"

    day: Mapped[date] = mapped_column(primary_key=True)
    finished_at: Mapped[datetime] = mapped_column(MOMENT)
    seconds: Mapped[float]
    differences: Mapped[int] = mapped_column(BigInteger)


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
