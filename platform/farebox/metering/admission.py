"""Admission: may this request run, and what is set aside for it. See `sql/admit.sql`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from farebox.core.clock import utc_now
from farebox.core.errors import FareboxError
from farebox.core.money import charge
from farebox.core.settings import Settings
from farebox.keys.errors import InvalidApiKey
from farebox.metering.errors import (
    LimitReached,
    ModelNotFound,
    OtherCurrency,
    QuotaExceeded,
    RateLimitExceeded,
)
from farebox.metering.quotas import Quotas, read_quotas

LEASE = timedelta(seconds=10)

ADMIT = """
SELECT * FROM farebox_admit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
"""


class Admission(msgspec.Struct, frozen=True):
    """A request as admission sees it. Its worst case is the whole prompt and the whole output.

    `max_output_tokens` is summed over the answers asked for. A request that leaves their length open is
    granted less where money is short, but no less than `least_output_tokens`; and rate limits count
    `expected_output_tokens` until it has ended. `items` are inputs to classify, or documents to rerank. All
    counts are at least 0. `organization_id` is what the key says: the row decides.
    """

    request_id: UUID
    organization_id: UUID
    key_id: UUID
    token_sha256: bytes
    model_id: str
    prompt_tokens: int
    max_output_tokens: int
    expected_output_tokens: int
    least_output_tokens: int
    items: int = 0


class FrozenPrice(msgspec.Struct, frozen=True):
    """The price row that applied at admission: amounts per million tokens of each class, and items.

    Of a price with tiers, the dearest rates that they can come to: what the tokens cost is told when they are
    settled.
    """

    id: UUID
    input: Decimal
    cached_input: Decimal
    output: Decimal
    currency: str
    item: Decimal = Decimal(0)

    def charge(self, input_tokens: int, cached_input_tokens: int, output_tokens: int, items: int) -> Decimal:
        """What the tokens and items cost, exactly; with tiers, at most."""
        return (
            charge(input_tokens, self.input)
            + charge(cached_input_tokens, self.cached_input)
            + charge(output_tokens, self.output)
            + charge(items, self.item)
        )


def _read_price(row: Mapping[str, Any]) -> FrozenPrice:
    return FrozenPrice(
        row["price_id"],
        row["input_per_million"],
        row["cached_input_per_million"],
        row["output_per_million"],
        row["currency"],
        row["item_per_million"],
    )


@dataclass(slots=True)
class Grant:
    """An admitted request: whose it is, its price, what was reserved for its worst case, what is left of its
    rates after it, and what of it was delivered so far. Its answers may have `max_output_tokens` in all."""

    request_id: UUID
    organization_id: UUID
    project_id: UUID
    key_id: UUID
    model_id: str
    price: FrozenPrice
    prompt_tokens: int
    max_output_tokens: int
    expected_output_tokens: int
    items: int
    reserved: Decimal
    quotas: Quotas
    admitted_at: datetime = field(default_factory=utc_now, init=False)
    delivered: bool = field(default=False, init=False)
    input_tokens: int = field(default=0, init=False)
    cached_input_tokens: int = field(default=0, init=False)
    output_tokens: int = field(default=0, init=False)
    settling: bool = field(default=False, init=False)
    lease_lost: bool = field(default=False, init=False)
    _stop: Callable[[], None] | None = field(default=None, init=False)

    @property
    def held_tokens(self) -> int:
        """What rate limits count of it until it has ended."""
        return self.prompt_tokens + min(self.max_output_tokens, self.expected_output_tokens)

    @property
    def cache_salt(self) -> bytes:
        """Keys the prefix cache by tenant, so that nobody can time another's prompts."""
        return self.organization_id.bytes

    def stop_when_lost(self, stop: Callable[[], None]) -> None:
        """Have `stop` called when another has settled this request: what is served from then on is reserved
        by nobody."""
        self._stop = stop
        if self.lease_lost:
            stop()

    def begin_settling(self) -> None:
        """From now on the lease is renewed and never lost. Lets go of what would be stopped: whoever runs the
        request holds this grant, and a ring would live until the collector comes by."""
        self.settling = True
        self._stop = None

    def lose_lease(self) -> None:
        self.lease_lost = True
        if self._stop is not None:
            self._stop()

    def record_delivery(self, input_tokens: int, cached_input_tokens: int, output_tokens: int) -> None:
        """Note what has been handed to the client's socket, as running totals of disjoint classes.

        If this process dies, another settles the request at the last checkpoint of these numbers.
        """
        self.delivered = True
        self.input_tokens = input_tokens
        self.cached_input_tokens = cached_input_tokens
        self.output_tokens = output_tokens


def admit_arguments(owner: UUID, settings: Settings, batch: Sequence[Admission]) -> tuple[Any, ...]:
    """The arguments of ADMIT for a batch."""
    return (
        owner,
        LEASE,
        [a.request_id for a in batch],
        [a.key_id for a in batch],
        [a.token_sha256 for a in batch],
        [a.model_id for a in batch],
        [a.prompt_tokens for a in batch],
        [a.max_output_tokens for a in batch],
        [a.expected_output_tokens for a in batch],
        [a.least_output_tokens for a in batch],
        [a.items for a in batch],
        settings.default_requests_per_minute,
        settings.default_tokens_per_minute,
        settings.default_concurrent_requests,
    )


def read_verdict(admission: Admission, row: Mapping[str, Any]) -> Grant | FareboxError:
    """A row of ADMIT as a grant, or as the error that the client is told."""
    match row["verdict"]:
        case "admitted":
            return Grant(
                admission.request_id,
                row["organization_id"],
                row["project_id"],
                admission.key_id,
                admission.model_id,
                _read_price(row),
                admission.prompt_tokens,
                row["output_tokens"],
                admission.expected_output_tokens,
                admission.items,
                row["reserved"],
                read_quotas(row),
            )
        case "bad_key":
            return InvalidApiKey()
        case "no_model":
            return ModelNotFound(admission.model_id)
    refusal = _read_refusal(admission, row)
    refusal.organization_id = row["organization_id"]
    refusal.scope_id = admission.key_id if refusal.scope == "key" else row[f"{refusal.scope}_id"]
    refusal.quotas = read_quotas(row)
    return refusal


def _read_refusal(admission: Admission, row: Mapping[str, Any]) -> LimitReached:
    if row["failed_limit"] == "currency":
        return OtherCurrency(row["currency"])
    if row["verdict"] == "no_quota":
        return QuotaExceeded(
            row["failed_scope"], row["failed_limit"], row["limit_value"], row["reserved"], row["currency"]
        )
    return RateLimitExceeded(row["failed_scope"], row["failed_limit"], row["limit_value"], row["retry_after"])
