"""Holds, usage events, their amendments, sums and seals. All but the seals are written by the functions in
Postgres, and read here."""

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CHAR,
    REAL,
    BigInteger,
    CheckConstraint,
    Index,
    Numeric,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import BYTEA
from sqlalchemy.orm import Mapped, mapped_column

from farebox.core.database import MOMENT, Model

MONEY = Numeric(30, 12)
UNIT_PRICE = Numeric(20, 6)


class Hold(Model):
    """A reservation for a request in flight: worst-case tokens and amount, an owner and a lease.

    The owner renews the lease and records what it has delivered; when the lease runs out, any
    replica settles the hold at that. A hold is resolved once: settling it deletes it. `tokens` is what
    rate limits count, `worst_tokens` what may be used at most.
    """

    __tablename__ = "hold"
    __table_args__ = (Index("ix_hold_organization_id", "organization_id"),)

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    owner: Mapped[UUID]
    organization_id: Mapped[UUID]
    project_id: Mapped[UUID]
    api_key_id: Mapped[UUID]
    model_id: Mapped[str] = mapped_column(Text)
    price_id: Mapped[UUID]
    input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    cached_input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    output_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    currency: Mapped[str] = mapped_column(CHAR(3))
    tokens: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[Decimal] = mapped_column(MONEY)
    admitted_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())
    lease_expires_at: Mapped[datetime] = mapped_column(MOMENT)
    delivered: Mapped[bool] = mapped_column(server_default="false")
    input_tokens: Mapped[int] = mapped_column(server_default="0")
    cached_input_tokens: Mapped[int] = mapped_column(server_default="0")
    output_tokens: Mapped[int] = mapped_column(server_default="0")
    items: Mapped[int] = mapped_column(server_default="0")
    item_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE, server_default="0")
    tiered: Mapped[bool] = mapped_column(server_default="false")
    worst_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")


class UsageEvent(Model):
    """One billed request, never changed. Token classes are disjoint; the price is frozen on it.

    `items` are classified inputs or reranked documents. The amounts by class are parts of `amount`; the
    output has the rest. At a tiered price the rates are the dearest that it could come to, and `tiers_from`
    says how many tokens of each class the month had before: so anybody can work out the amounts again.
    `created_at` is when it was settled, which decides its hour, its month and its partition.
    """

    __tablename__ = "usage_event"
    __table_args__ = (
        CheckConstraint("status IN ('completed', 'cancelled', 'failed', 'interrupted')", name="status"),
        CheckConstraint(
            "input_tokens >= 0 AND cached_input_tokens >= 0 AND output_tokens >= 0", name="tokens"
        ),
        Index("ix_usage_event_organization_id", "organization_id", "created_at"),
        Index("ix_usage_event_project", "organization_id", "project_id", "created_at"),
        Index("ix_usage_event_created_at", "created_at", postgresql_using="brin"),
        {"postgresql_partition_by": "RANGE (created_at)"},
    )

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    admitted_at: Mapped[datetime] = mapped_column(MOMENT)
    organization_id: Mapped[UUID]
    project_id: Mapped[UUID]
    api_key_id: Mapped[UUID]
    model_id: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    input_tokens: Mapped[int]
    cached_input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    price_id: Mapped[UUID]
    input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    cached_input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    output_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    amount: Mapped[Decimal] = mapped_column(MONEY)
    currency: Mapped[str] = mapped_column(CHAR(3))
    queue_seconds: Mapped[float | None] = mapped_column(REAL)
    prefill_seconds: Mapped[float | None] = mapped_column(REAL)
    decode_seconds: Mapped[float | None] = mapped_column(REAL)
    first_token_seconds: Mapped[float | None] = mapped_column(REAL)
    device_seconds: Mapped[float | None] = mapped_column(REAL)
    items: Mapped[int] = mapped_column(server_default="0")
    item_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE, server_default="0")
    input_amount: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    cached_input_amount: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    item_amount: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    tiers_from: Mapped[list[int] | None] = mapped_column(ARRAY(BigInteger))


class UsageAmendment(Model):
    """What a request came to beyond the event that a sweep left of it (`sql/amend.sql`), or all of an event
    taken back, of an answer that nobody got (`sql/credit.sql`).

    Counts and amount are differences to the event, at its frozen price. `created_at` decides the hour and
    the month in which they count.
    """

    __tablename__ = "usage_amendment"
    __table_args__ = (
        CheckConstraint(
            "status IN ('completed', 'cancelled', 'failed', 'interrupted', 'undelivered')", name="status"
        ),
        CheckConstraint(
            "CASE WHEN status = 'undelivered'"
            " THEN greatest(input_tokens, cached_input_tokens, output_tokens, amount) <= 0"
            " ELSE least(input_tokens, cached_input_tokens, output_tokens, amount) >= 0 END",
            name="difference",
        ),
        Index("ix_usage_amendment_created_at", "created_at"),
    )

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(MOMENT)
    organization_id: Mapped[UUID]
    project_id: Mapped[UUID]
    api_key_id: Mapped[UUID]
    model_id: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(Text)
    input_tokens: Mapped[int]
    cached_input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    cached_input_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    output_per_million: Mapped[Decimal] = mapped_column(UNIT_PRICE)
    amount: Mapped[Decimal] = mapped_column(MONEY)
    currency: Mapped[str] = mapped_column(CHAR(3))
    items: Mapped[int] = mapped_column(server_default="0")
    input_amount: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    cached_input_amount: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    item_amount: Mapped[Decimal] = mapped_column(MONEY, server_default="0")


class UsageSeal(Model):
    """An hour that is closed: the root over the organizations' roots, chained to the hour before.

    `entries` counts its events and amendments. See `seals/chain.py` for what is hashed.
    """

    __tablename__ = "usage_seal"
    __table_args__ = (
        UniqueConstraint("previous"),
        CheckConstraint("length(root) = 32 AND length(previous) = 32 AND length(seal) = 32", name="hashes"),
    )

    hour: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    entries: Mapped[int] = mapped_column(BigInteger)
    root: Mapped[bytes] = mapped_column(BYTEA)
    previous: Mapped[bytes] = mapped_column(BYTEA)
    seal: Mapped[bytes] = mapped_column(BYTEA)
    sealed_at: Mapped[datetime] = mapped_column(MOMENT, server_default=func.now())


class UsageOrganizationSeal(Model):
    """The root over an organization's events and amendments of a closed hour, and its path to that of the
    hour: so whoever may read this row needs no other organization's."""

    __tablename__ = "usage_organization_seal"
    __table_args__ = (
        CheckConstraint("length(root) = 32", name="root"),
        Index("ix_usage_organization_seal_hour", "hour"),
    )

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    entries: Mapped[int] = mapped_column(BigInteger)
    root: Mapped[bytes] = mapped_column(BYTEA)
    path: Mapped[bytes] = mapped_column(BYTEA)


class SealHorizon(Model):
    """Hours before `until` are over; who may still write in them has a transaction id below this one."""

    __tablename__ = "seal_horizon"

    until: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    transaction_id: Mapped[int] = mapped_column(BigInteger)


class Handover(Model):
    """A whole answer that is billed and on its way to its client.

    If its lease runs out its server is dead, and it is credited.
    """

    __tablename__ = "handover"

    request_id: Mapped[UUID] = mapped_column(primary_key=True)
    lease_expires_at: Mapped[datetime] = mapped_column(MOMENT)


class UsageHour(Model):
    """Sums of usage events and amendments by hour, project, key and model, kept by who books them.

    `input_amount`, `cached_input_amount` and `item_amount` are what of `amount` these classes cost; the
    output has the rest. A capped amount pays for the input first, then for the cached input, then for items.
    """

    __tablename__ = "usage_hour"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    api_key_id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(Text, primary_key=True)
    currency: Mapped[str] = mapped_column(CHAR(3), primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[Decimal] = mapped_column(MONEY)
    input_amount: Mapped[Decimal] = mapped_column(MONEY)
    cached_input_amount: Mapped[Decimal] = mapped_column(MONEY)
    items: Mapped[int] = mapped_column(BigInteger, server_default="0")
    item_amount: Mapped[Decimal] = mapped_column(MONEY, server_default="0")


class UsageMinute(Model):
    """The same sums by minute, for reports of a day: there may be any number of events in one."""

    __tablename__ = "usage_minute"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    minute: Mapped[datetime] = mapped_column(MOMENT, primary_key=True)
    project_id: Mapped[UUID] = mapped_column(primary_key=True)
    api_key_id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(Text, primary_key=True)
    currency: Mapped[str] = mapped_column(CHAR(3), primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    amount: Mapped[Decimal] = mapped_column(MONEY)


class TierUsage(Model):
    """Tokens that an organization used in a UTC month at a tiered price, and what they were billed: its place
    in the tiers. `settled_at` says when what was billed beyond the tariff was paid back."""

    __tablename__ = "tier_usage"

    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(Text, primary_key=True)
    month: Mapped[date] = mapped_column(primary_key=True)
    price_id: Mapped[UUID] = mapped_column(primary_key=True)
    input_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cached_input_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    output_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    billed: Mapped[Decimal] = mapped_column(MONEY, server_default="0")
    settled_at: Mapped[datetime | None] = mapped_column(MOMENT)
