"""Settlement: a hold becomes a usage event, once. See `sql/settle.sql`."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from farebox.metering.admission import LEASE, FrozenPrice, Grant
from farebox.metering.receipts.batch import Receipt

SETTLE = """
SELECT * FROM farebox_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, false, $13)
"""
SETTLE_LATE = """
SELECT * FROM farebox_settle_late(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24
)
"""

Status = Literal["completed", "cancelled", "failed"]


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """What a request came to: tokens by class (disjoint) and the engine's times in seconds.

    A request that was not completed and of which nothing was delivered costs nothing and leaves
    no event: its hold is voided. One that is `to_be_handed_over` is a whole answer, which leaves for its
    client once it is settled; see `Meter.hand_over`.
    """

    status: Status
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    first_token_seconds: float | None = None
    device_seconds: float | None = None
    to_be_handed_over: bool = False


class Settled(msgspec.Struct, frozen=True):
    """What the request cost. `spooled` says that it is on disk but not yet in Postgres.

    `receipt` is None where there is none to be had: nothing was billed, or receipts are switched off.
    """

    amount: Decimal
    currency: str
    spooled: bool = False
    receipt: Receipt | None = None


class Posting(msgspec.Struct, frozen=True):
    """A settlement on its way to Postgres, by batch or by spool.

    The fields before `request_id` say what was admitted: with them it is billed even if its hold is gone.
    """

    organization_id: UUID
    project_id: UUID
    key_id: UUID
    model_id: str
    price: FrozenPrice
    admitted_at: datetime
    reserved: Decimal
    request_id: UUID
    status: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    queue_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None
    first_token_seconds: float | None = None
    device_seconds: float | None = None
    handed_over: bool = True
    items: int = 0

    @property
    def charge(self) -> Decimal:
        """What it costs at the frozen price; with tiers, at most."""
        items = self.items if self.status == "completed" else 0
        counts = (self.input_tokens, self.cached_input_tokens, self.output_tokens, items)
        return min(self.reserved, self.price.charge(*counts))


def make_posting(grant: Grant, settlement: Settlement) -> Posting:
    """The row that settles a grant; of an incomplete request only what was delivered is billed."""
    counts = (settlement.input_tokens, settlement.cached_input_tokens, settlement.output_tokens)
    status: str = settlement.status
    if settlement.status != "completed":
        counts = (grant.input_tokens, grant.cached_input_tokens, grant.output_tokens)
        status = settlement.status if grant.delivered else "void"
    return Posting(
        *_terms_of(grant),
        status,
        *counts,
        settlement.queue_seconds,
        settlement.prefill_seconds,
        settlement.decode_seconds,
        settlement.first_token_seconds,
        settlement.device_seconds,
        not settlement.to_be_handed_over,
        grant.items,
    )


def delivered_posting(grant: Grant) -> Posting:
    """What a live request has delivered so far, to be settled as `interrupted` if its process dies."""
    counts = (grant.input_tokens, grant.cached_input_tokens, grant.output_tokens)
    return Posting(*_terms_of(grant), "interrupted", *counts, items=grant.items)


def _terms_of(grant: Grant) -> tuple[UUID, UUID, UUID, str, FrozenPrice, datetime, Decimal, UUID]:
    return (
        grant.organization_id,
        grant.project_id,
        grant.key_id,
        grant.model_id,
        grant.price,
        grant.admitted_at,
        grant.reserved,
        grant.request_id,
    )


def settle_arguments(batch: Sequence[Posting]) -> tuple[Any, ...]:
    """The arguments of SETTLE for a batch: one array a column."""
    return (*([getattr(posting, name) for posting in batch] for name in _OUTCOME), LEASE)


def settle_late_arguments(batch: Sequence[Posting]) -> tuple[Any, ...]:
    """The arguments of SETTLE_LATE for a batch: one array a column."""
    reserved = [posting.reserved for posting in batch]
    return (*_terms(batch), reserved, [posting.items for posting in batch], *settle_arguments(batch))


def rehold_arguments(grants: Sequence[Grant]) -> tuple[list[Any], ...]:
    """The arguments of REHOLD for a batch, after owner and lease: one array a column."""
    return (
        *_terms(grants),
        [g.request_id for g in grants],
        [g.held_tokens for g in grants],
        [g.reserved for g in grants],
        [g.items for g in grants],
    )


def _terms(batch: Sequence[Posting] | Sequence[Grant]) -> tuple[list[Any], ...]:
    """What was admitted, on which terms."""
    return (
        [p.organization_id for p in batch],
        [p.project_id for p in batch],
        [p.key_id for p in batch],
        [p.model_id for p in batch],
        [p.price.id for p in batch],
        [p.price.input for p in batch],
        [p.price.cached_input for p in batch],
        [p.price.output for p in batch],
        [p.price.currency for p in batch],
        [p.admitted_at for p in batch],
    )


_FIELDS = Posting.__struct_fields__
_OUTCOME = _FIELDS[_FIELDS.index("request_id") : _FIELDS.index("items")]
