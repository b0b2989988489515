"""Sums from the database, laid out in the buckets of OpenAI's usage pages."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeVar, cast
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.ids import external
from farebox.usage.buckets import BucketPage, bucket_page
from farebox.usage.line_items import LineItem, LineItemDimension, read_line_items
from farebox.usage.parameters import WIDTHS, CompletionsParameters, CostsParameters, uuids
from farebox.usage.queries import Dimension, UsageFilter, UsageSum, read_usage
from farebox.usage.reading import Rows
from farebox.usage.schemas import (
    Amount,
    CompletionsBucket,
    CompletionsPage,
    CompletionsResult,
    CostsBucket,
    CostsPage,
    CostsResult,
)

T = TypeVar("T")


@dataclass(frozen=True)
class CompletionsReport:
    """Token usage as it was read, still to be laid out: there may be thousands of sums."""

    page: BucketPage
    sums: Rows[UsageSum]

    def lay_out(self) -> CompletionsPage:
        results: dict[datetime, list[CompletionsResult]] = defaultdict(list)
        for each in self.sums.build():
            results[each.bucket].append(_completions_result(each))
        data = [
            CompletionsBucket(start_time=start, end_time=end, results=results[edge])
            for edge, start, end in _edges(self.page)
        ]
        return CompletionsPage(data=data, has_more=self.page.after is not None, next_page=self.page.next_page)


@dataclass(frozen=True)
class CostsReport:
    """Daily costs as they were read, still to be laid out."""

    page: BucketPage
    costs: Rows[UsageSum] | Rows[LineItem]

    def lay_out(self) -> CostsPage:
        results: dict[datetime, list[CostsResult]] = defaultdict(list)
        for each in self.costs.build():
            results[each.bucket].append(_costs_result(each))
        data = [
            CostsBucket(start_time=start, end_time=end, results=results[edge])
            for edge, start, end in _edges(self.page)
        ]
        return CostsPage(data=data, has_more=self.page.after is not None, next_page=self.page.next_page)


async def completions_report(
    session: AsyncSession, organization_id: UUID, asked: CompletionsParameters
) -> CompletionsReport:
    """One page of token usage. Raises BadRequest naming the parameter at fault."""
    page = bucket_page(
        asked.start_time, asked.end_time, WIDTHS[asked.bucket_width], asked.page_limit(), asked.page
    )
    sums = await read_usage(
        session,
        organization_id,
        start=page.start,
        end=page.end,
        width=page.width,
        group_by=_distinct(asked.group_by),
        where=UsageFilter(
            project_ids=uuids("project_ids", "proj", asked.project_ids),
            user_ids=uuids("user_ids", "user", asked.user_ids),
            api_key_ids=uuids("api_key_ids", "key", asked.api_key_ids),
            models=asked.models,
        ),
    )
    return CompletionsReport(page, sums)


async def costs_report(session: AsyncSession, organization_id: UUID, asked: CostsParameters) -> CostsReport:
    """One page of daily costs. Raises BadRequest naming the parameter at fault."""
    page = bucket_page(asked.start_time, asked.end_time, WIDTHS[asked.bucket_width], asked.limit, asked.page)
    return CostsReport(page, await _costs(session, organization_id, asked, page))


def _edges(page: BucketPage) -> Iterator[tuple[datetime, int, int]]:
    """Where each bucket begins; the same in Unix seconds; and where it ends."""
    for edge in page:
        yield edge, int(edge.timestamp()), int((edge + page.width).timestamp())


async def _costs(
    session: AsyncSession, organization_id: UUID, asked: CostsParameters, page: BucketPage
) -> Rows[UsageSum] | Rows[LineItem]:
    project_ids = uuids("project_ids", "proj", asked.project_ids)
    api_key_ids = uuids("api_key_ids", "key", asked.api_key_ids)
    groups = _distinct(asked.group_by)
    if "line_item" in groups or asked.line_items:
        return await read_line_items(
            session,
            organization_id,
            start=page.start,
            end=page.end,
            group_by=cast(Sequence[LineItemDimension], [name for name in groups if name != "line_item"]),
            project_ids=project_ids,
            api_key_ids=api_key_ids,
            line_items=asked.line_items,
        )
    return await read_usage(
        session,
        organization_id,
        start=page.start,
        end=page.end,
        width=page.width,
        group_by=cast(Sequence[Dimension], [*groups, "currency"]),
        where=UsageFilter(project_ids=project_ids, api_key_ids=api_key_ids),
    )


def _completions_result(each: UsageSum) -> CompletionsResult:
    return CompletionsResult(
        # OpenAI counts cached tokens among the input tokens; Farebox keeps the classes apart.
        input_tokens=each.input_tokens + each.cached_input_tokens,
        output_tokens=each.output_tokens,
        input_cached_tokens=each.cached_input_tokens,
        input_uncached_tokens=each.input_tokens,
        num_model_requests=each.requests,
        project_id=_external("proj", each.project_id),
        user_id=_external("user", each.user_id),
        api_key_id=_external("key", each.api_key_id),
        model=each.model,
    )


def _costs_result(each: UsageSum | LineItem) -> CostsResult:
    result = CostsResult(
        amount=Amount(_shortest(each.amount), (each.currency or "").lower()),
        project_id=_external("proj", each.project_id),
        user_id=_external("user", each.user_id),
        api_key_id=_external("key", each.api_key_id),
    )
    if isinstance(each, LineItem):
        return msgspec.structs.replace(
            result, line_item=each.line_item, quantity=each.quantity, quantity_unit="tokens"
        )
    return result


def _shortest(amount: Decimal) -> Decimal:
    """The same number without the zeros that fill NUMERIC(30, 12)."""
    whole = amount.to_integral_value()
    return whole.quantize(Decimal(1)) if amount == whole else amount.normalize()


def _external(prefix: str, value: UUID | None) -> str | None:
    return None if value is None else external(prefix, value)


def _distinct(names: Sequence[T]) -> list[T]:
    return list(dict.fromkeys(names))
