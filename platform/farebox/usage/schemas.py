"""The usage and costs pages, in OpenAI's shape."""

from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from farebox.core.openapi.documentation import WRITTEN_AS_NUMBER

Number = Annotated[Decimal, msgspec.Meta(extra_json_schema=WRITTEN_AS_NUMBER)]


class CompletionsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Usage in one bucket of one group. `input_tokens` includes the cached ones."""

    object: Literal["organization.usage.completions.result"] = "organization.usage.completions.result"
    input_tokens: int
    output_tokens: int
    input_cached_tokens: int
    input_uncached_tokens: int
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    num_model_requests: int
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    model: str | None = None
    batch: bool | None = None
    service_tier: str | None = None


class Amount(msgspec.Struct, frozen=True):
    """Money: `value` is a JSON number with all its digits, `currency` lower-case ISO 4217."""

    value: Number
    currency: str


class CostsResult(msgspec.Struct, frozen=True, kw_only=True):
    """Costs in one day of one group."""

    object: Literal["organization.costs.result"] = "organization.costs.result"
    amount: Amount
    line_item: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    quantity: int | None = None
    quantity_unit: Literal["tokens"] | None = None


class CompletionsBucket(msgspec.Struct, frozen=True, kw_only=True):
    """[start_time, end_time) in Unix seconds, and what was used in it; `results` may be empty."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[CompletionsResult]


class CostsBucket(msgspec.Struct, frozen=True, kw_only=True):
    """[start_time, end_time) in Unix seconds, one UTC day, and what it cost."""

    object: Literal["bucket"] = "bucket"
    start_time: int
    end_time: int
    results: list[CostsResult]


class CompletionsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of buckets, oldest first; `next_page` goes into the `page` parameter."""

    object: Literal["page"] = "page"
    data: list[CompletionsBucket]
    has_more: bool
    next_page: str | None


class CostsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of days, oldest first; `next_page` goes into the `page` parameter."""

    object: Literal["page"] = "page"
    data: list[CostsBucket]
    has_more: bool
    next_page: str | None
