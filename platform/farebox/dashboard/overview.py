"""The overview: what was spent, on what, and what is left."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Response, get
from litestar.connection import Request
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.dependencies import SignedIn
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.fair_threads import FairThreads
from farebox.core.settings import Settings
from farebox.dashboard import formats
from farebox.dashboard.chart import Chart, bar_chart
from farebox.dashboard.frame import load_frame
from farebox.dashboard.offered_models import example_model
from farebox.dashboard.pages import framed_page
from farebox.keys.service import has_live_key
from farebox.limits.service import get_limits
from farebox.usage.queries import (
    RequestCost,
    UsageFilter,
    UsageSum,
    bucket_floor,
    newest_requests,
    usage_by_bucket,
)
from farebox.usage.reading import report_transaction

Span = Literal["24h", "30d"]
Measure = Literal["spend", "requests", "tokens"]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_SPANS: dict[Span, tuple[timedelta, int]] = {"24h": (HOUR, 24), "30d": (DAY, 30)}


@dataclass(frozen=True)
class Totals:
    """Sums over some buckets; the token classes are disjoint."""

    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    amount: Decimal

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.cached_input_tokens + self.output_tokens


@dataclass(frozen=True)
class Overview:
    """What the page shows. Money is in the operator's currency."""

    today: Totals
    month: Totals
    month_start: datetime
    balance: Decimal
    reserved: Decimal
    monthly_cap: Decimal | None
    chart: Chart
    newest: Sequence[RequestCost]
    has_key: bool
    as_of: datetime


@get("/overview")
async def overview_page(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
    span: FromQuery[Span] = "24h",
    show: FromQuery[Measure] = "spend",
    project: Annotated[str, QueryParameter(max_length=40)] = "",
) -> Response[str]:
    async with report_transaction(database, signed_in.organization_id, signed_in.user_id) as session:
        frame = await load_frame(session, signed_in, settings, project)
        overview = await load_overview(
            session, signed_in.organization_id, frame.project_id, settings.currency, span, show
        )
        model = await example_model(request, session, signed_in.organization_id)
    asked: dict[str, Any] = {"span": span, "show": show, "project": project}
    return await framed_page(
        printers, "overview.html", frame=frame, overview=overview, example_model=model, **asked
    )


async def load_overview(
    session: AsyncSession,
    organization_id: UUID,
    project_id: UUID | None,
    currency: str,
    span: Span,
    show: Measure,
) -> Overview:
    """Everything on the page, of one project or of the whole organization."""
    now = utc_now()
    month_start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    where = UsageFilter(project_ids=[project_id] if project_id else [], currency=currency)
    ask = partial(usage_by_bucket, session, organization_id, where=where)
    width, number = _SPANS[span]
    first = bucket_floor(now, width) - (number - 1) * width
    days = await ask(start=month_start, end=now + DAY, width=DAY)
    series = await ask(start=first, end=now + width, width=width)
    limits = await get_limits(session, organization_id, project_id or organization_id)
    funds = await get_limits(session, organization_id, organization_id)
    return Overview(
        today=_total([each for each in days if each.bucket == bucket_floor(now, DAY)]),
        month=_total(days),
        month_start=month_start,
        balance=funds.balance or Decimal(0),
        reserved=funds.reserved,
        monthly_cap=limits.monthly_cap,
        chart=_chart(series, [first + n * width for n in range(number)], show, currency),
        newest=await newest_requests(session, organization_id, project_id=project_id, limit=25),
        has_key=await has_live_key(session, organization_id),
        as_of=now,
    )


def _total(sums: Sequence[UsageSum]) -> Totals:
    return Totals(
        requests=sum(each.requests for each in sums),
        input_tokens=sum(each.input_tokens for each in sums),
        cached_input_tokens=sum(each.cached_input_tokens for each in sums),
        output_tokens=sum(each.output_tokens for each in sums),
        amount=sum((each.amount for each in sums), Decimal(0)),
    )


def _chart(sums: Sequence[UsageSum], edges: Sequence[datetime], show: Measure, currency: str) -> Chart:
    found = {each.bucket: _measure(_total([each]), show) for each in sums}
    values = [(edge, found.get(edge, Decimal(0))) for edge in edges]
    if show == "spend":
        return bar_chart(
            values,
            label=lambda amount: formats.money(amount, currency),
            tick=lambda amount: formats.money_brief(amount, currency),
        )
    return bar_chart(values, label=lambda number: formats.count(int(number)), tick=formats.count_brief)


def _measure(totals: Totals, show: Measure) -> Decimal:
    values: dict[Measure, Any] = {
        "spend": totals.amount,
        "requests": totals.requests,
        "tokens": totals.tokens,
    }
    return Decimal(values[show])
