"""What is bought through Stripe, and what Stripe told of it. Written by `billing.stripe` alone."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    CHAR,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model

AMOUNT = Numeric(30, 12)
# From here on somebody may still pay.
UNDER_WAY = ("open", "processing", "requires_action")


class TopUp(Model):
    """An amount that somebody wants to pay in: by Checkout, or automatically by an invoice.

    The ledger gets `amount` when the state becomes `paid`, which is final. `tax` was paid beside it, and
    `fee` is what Stripe kept (None until it is known). `client_key` is the client's own name for it.
    """

    __tablename__ = "top_up"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("organization_id", "client_key", name="uq_top_up_client_key"),
        Index(
            "uq_top_up_automatic",
            "organization_id",
            unique=True,
            postgresql_where=text(
                "kind = 'automatic' AND state IN ('open', 'processing', 'requires_action')"
            ),
        ),
        CheckConstraint("kind IN ('checkout', 'automatic')", name="kind"),
        CheckConstraint(
            "state IN ('open', 'processing', 'requires_action', 'failed', 'expired', 'paid')", name="state"
        ),
        CheckConstraint("amount > 0 AND tax >= 0", name="amount"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, server_default="open")
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(CHAR(3))
    tax: Mapped[Decimal] = mapped_column(AMOUNT, server_default="0")
    fee: Mapped[Decimal | None] = mapped_column(AMOUNT)
    client_key: Mapped[str | None] = mapped_column(Text)
    keeps_method: Mapped[bool] = mapped_column(server_default="false")
    session_id: Mapped[str | None] = mapped_column(Text, unique=True)
    invoice_id: Mapped[str | None] = mapped_column(Text, unique=True)
    payment_intent: Mapped[str | None] = mapped_column(Text, unique=True)
    url: Mapped[str | None] = mapped_column(Text)
    failure: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    expires_at: Mapped[datetime] = mapped_column(MOMENT)
    paid_at: Mapped[datetime | None] = mapped_column(MOMENT)


class TopUpRefund(Model):
    """What goes back of a top-up: `credit` of the balance, `tax` beside it. Asked for here or at Stripe."""

    __tablename__ = "top_up_refund"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "top_up_id"], ["top_up.organization_id", "top_up.id"]),
        Index("ix_top_up_refund_top_up_id", "top_up_id"),
        CheckConstraint("state IN ('requested', 'pending', 'succeeded', 'failed')", name="state"),
        CheckConstraint("credit >= 0 AND tax >= 0", name="amount"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    top_up_id: Mapped[UUID]
    refund_id: Mapped[str | None] = mapped_column(Text, unique=True)
    state: Mapped[str] = mapped_column(Text)
    credit: Mapped[Decimal] = mapped_column(AMOUNT)
    tax: Mapped[Decimal] = mapped_column(AMOUNT)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class TopUpDispute(Model):
    """A payer's bank takes a top-up back; `id` is Stripe's."""

    __tablename__ = "top_up_dispute"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "top_up_id"], ["top_up.organization_id", "top_up.id"]),
        Index("ix_top_up_dispute_top_up_id", "top_up_id"),
        CheckConstraint("state IN ('open', 'withdrawn', 'reinstated', 'lost')", name="state"),
        CheckConstraint("credit >= 0 AND tax >= 0", name="amount"),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    organization_id: Mapped[UUID]
    top_up_id: Mapped[UUID]
    state: Mapped[str] = mapped_column(Text)
    credit: Mapped[Decimal] = mapped_column(AMOUNT)
    tax: Mapped[Decimal] = mapped_column(AMOUNT)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class StripeCustomer(Model):
    """Who an organization is at Stripe, and the payment method that it let us keep."""

    __tablename__ = "stripe_customer"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(Text, unique=True)
    payment_method: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class AutoTopUp(Model):
    """Pay in `amount` whenever the balance falls below `threshold`, at most `monthly_ceiling` in a UTC month.

    `paused` says why nothing is tried until somebody acts; after a decline nothing is before `retry_at`.
    """

    __tablename__ = "auto_top_up"
    __table_args__ = (
        CheckConstraint("threshold >= 0 AND amount > 0 AND monthly_ceiling >= amount", name="amounts"),
        CheckConstraint("paused IN ('declined', 'requires_action', 'no_method')", name="paused"),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    enabled: Mapped[bool]
    threshold: Mapped[Decimal] = mapped_column(AMOUNT)
    amount: Mapped[Decimal] = mapped_column(AMOUNT)
    monthly_ceiling: Mapped[Decimal] = mapped_column(AMOUNT)
    currency: Mapped[str] = mapped_column(CHAR(3))
    failures: Mapped[int] = mapped_column(server_default="0")
    paused: Mapped[str | None] = mapped_column(Text)
    retry_at: Mapped[datetime | None] = mapped_column(MOMENT)


class StripeEvent(Model):
    """A notice of Stripe's, by its id. It names an object, which is fetched anew: no content is kept.

    `pending` until it is worked off; then `done`, `ignored` (not ours, or of no matter here), or `dead`:
    given up, for the operator to look at. `note` says why.
    """

    __tablename__ = "stripe_event"
    __table_args__ = (
        CheckConstraint("state IN ('pending', 'done', 'ignored', 'dead')", name="state"),
        Index("ix_stripe_event_received_at", "received_at", postgresql_where=text("state <> 'done'")),
    )

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    type: Mapped[str] = mapped_column(Text)
    object_id: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(server_default="0")
    note: Mapped[str | None] = mapped_column(Text)
    received_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    settled_at: Mapped[datetime | None] = mapped_column(MOMENT)


class StripeSweep(Model):
    """When a sweep through the account at Stripe began last, whichever worker did it."""

    __tablename__ = "stripe_sweep"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    begun_at: Mapped[datetime] = mapped_column(MOMENT)
