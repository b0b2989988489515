"""Invoices, what was paid and credited of them, their numbers, and who is billed."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    CHAR,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model

MONEY = Numeric(30, 12)


class Invoice(Model):
    """A numbered document: an invoice or a statement of a month, or a credit note on an invoice.

    `document` is its text in canonical JSON, frozen when it was numbered. `due` is what an invoice asks for;
    `paid` of it came in, `credited` was taken back, `refunded` is the part of `credited` that had been paid.
    `closing_…` is what the ledger had at the month's end; a credit note has none.
    """

    __tablename__ = "invoice"
    __table_args__ = (
        UniqueConstraint("organization_id", "id"),
        UniqueConstraint("number"),
        UniqueConstraint("refers_to", "reason"),
        ForeignKeyConstraint(["organization_id", "refers_to"], ["invoice.organization_id", "invoice.id"]),
        CheckConstraint("kind IN ('invoice', 'statement', 'credit_note')", name="kind"),
        CheckConstraint("status IN ('open', 'paid', 'void', 'uncollectible', 'final')", name="status"),
        CheckConstraint("(refers_to IS NOT NULL) = (kind = 'credit_note')", name="refers"),
        CheckConstraint(
            "paid >= 0 AND refunded >= 0 AND refunded <= paid"
            " AND credited - refunded + paid <= greatest(due, 0) AND credited <= greatest(due, 0)"
            " AND credited >= refunded",
            name="settlement",
        ),
        Index(
            "uq_invoice_month",
            "organization_id",
            "month",
            "currency",
            unique=True,
            postgresql_where=text("kind <> 'credit_note'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    kind: Mapped[str] = mapped_column(Text)
    number: Mapped[str] = mapped_column(Text)
    month: Mapped[date]
    currency: Mapped[str] = mapped_column(CHAR(3))
    status: Mapped[str] = mapped_column(Text)
    issued_at: Mapped[datetime] = mapped_column(MOMENT)
    due_on: Mapped[date | None]
    total: Mapped[Decimal] = mapped_column(MONEY)
    due: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0), server_default="0")
    paid: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0), server_default="0")
    credited: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0), server_default="0")
    refunded: Mapped[Decimal] = mapped_column(MONEY, default=Decimal(0), server_default="0")
    settled_at: Mapped[datetime | None] = mapped_column(MOMENT)
    closing_balance: Mapped[Decimal | None] = mapped_column(MONEY)
    closing_receivable: Mapped[Decimal | None] = mapped_column(MONEY)
    refers_to: Mapped[UUID | None]
    reason: Mapped[str | None] = mapped_column(Text)
    document: Mapped[str] = mapped_column(Text)

    @property
    def outstanding(self) -> Decimal:
        """What is still to be paid."""
        return max(self.due - self.paid - (self.credited - self.refunded), Decimal(0))


class InvoicePayment(Model):
    """A part of a payment that went to an invoice; `reference` is None where it was paid on account."""

    __tablename__ = "invoice_payment"
    __table_args__ = (
        ForeignKeyConstraint(["organization_id", "invoice_id"], ["invoice.organization_id", "invoice.id"]),
        CheckConstraint("amount > 0", name="amount"),
        Index("ix_invoice_payment_organization_id", "organization_id", "invoice_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID]
    invoice_id: Mapped[UUID]
    amount: Mapped[Decimal] = mapped_column(MONEY)
    reference: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class CreditedLine(Model):
    """What a credit note takes back of one line of an invoice; lines are counted from 1."""

    __tablename__ = "credited_line"
    __table_args__ = (
        ForeignKeyConstraint(
            ["organization_id", "credit_note_id"], ["invoice.organization_id", "invoice.id"]
        ),
        ForeignKeyConstraint(
            ["organization_id", "invoice_id"],
            ["invoice.organization_id", "invoice.id"],
            name="fk_credited_line_invoice_id",
        ),
        CheckConstraint("amount > 0", name="amount"),
        Index("ix_credited_line_organization_id", "organization_id", "invoice_id"),
    )

    credit_note_id: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    organization_id: Mapped[UUID]
    invoice_id: Mapped[UUID]
    amount: Mapped[Decimal] = mapped_column(MONEY)


class NumberSeries(Model):
    """The last number given out of an issuer's invoices, statements or credit notes of a year."""

    __tablename__ = "number_series"

    issuer: Mapped[str] = mapped_column(Text, primary_key=True)
    series: Mapped[str] = mapped_column(Text, primary_key=True)
    year: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last: Mapped[int]


class ClosedMonth(Model):
    """A month in which every organization has its document; named by its first day."""

    __tablename__ = "closed_month"

    month: Mapped[date] = mapped_column(primary_key=True)
    closed_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class BillingDetails(Model):
    """Who is billed, as it is to stand on the invoices to come."""

    __tablename__ = "billing_details"
    __table_args__ = (CheckConstraint("language IN ('en', 'zh-Hans')", name="language"),)

    organization_id: Mapped[UUID] = mapped_column(
        ForeignKey("organization.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str | None] = mapped_column(Text)
    address: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    country: Mapped[str | None] = mapped_column(CHAR(2))
    tax_id: Mapped[str | None] = mapped_column(Text)
    email: Mapped[str | None] = mapped_column(Text)
    language: Mapped[str | None] = mapped_column(Text)
