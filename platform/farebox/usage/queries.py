"""Questions to the usage tables, one tenant at a time, under row-level security.

Sums are read from those that settlement keeps by hour and by minute: there may be any number of events.
Every query names its organization even though the policy would hide the others: two locks, one door.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Label,
    Select,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from farebox.keys.models import ApiKey
from farebox.metering.models import Hold, UsageAmendment, UsageEvent, UsageHour, UsageMinute
from farebox.tenants.models import Project
from farebox.usage.reading import Rows, read_rows

Dimension = Literal["project_id", "user_id", "api_key_id", "model", "currency"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class UsageFilter:
    """Which usage counts; an empty list means any. Ids of other tenants match nothing."""

    project_ids: Sequence[UUID] = ()
    user_ids: Sequence[UUID] = ()
    api_key_ids: Sequence[UUID] = ()
    models: Sequence[str] = ()
    currency: str | None = None


class UsageSum(msgspec.Struct, frozen=True, kw_only=True):
    """Requests, tokens by disjoint class, and their amount, in one bucket of one group.

    `bucket` is where the bucket begins; a dimension that was not asked for is None.
    """

    bucket: datetime
    requests: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    amount: Decimal
    project_id: UUID | None = None
    user_id: UUID | None = None
    api_key_id: UUID | None = None
    model: str | None = None
    currency: str | None = None


@dataclass(frozen=True, kw_only=True)
class RequestCost:
    """One request with the price that was frozen on it: tokens times price is its amount."""

    request_id: UUID
    created_at: datetime
    status: str
    model: str
    project: str
    api_key: str
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    input_per_million: Decimal
    cached_input_per_million: Decimal
    output_per_million: Decimal
    amount: Decimal
    currency: str
    first_token_seconds: float | None


@dataclass(frozen=True)
class _Source:
    """The same columns, summed by hour or by minute."""

    columns: ReadOnlyColumnCollection[str, ColumnElement[Any]]
    moment: ColumnElement[datetime]


_HOURS = _Source(UsageHour.__table__.c, UsageHour.__table__.c.hour)
_MINUTES = _Source(UsageMinute.__table__.c, UsageMinute.__table__.c.minute)


async def usage_by_bucket(
    session: AsyncSession,
    organization_id: UUID,
    *,
    start: datetime,
    end: datetime,
    width: timedelta,
    group_by: Sequence[Dimension] = (),
    where: UsageFilter | None = None,
) -> list[UsageSum]:
    """What `read_usage` reads, built at once: for a few hundred sums."""
    rows = await read_usage(
        session, organization_id, start=start, end=end, width=width, group_by=group_by, where=where
    )
    return rows.build()


async def read_usage(
    session: AsyncSession,
    organization_id: UUID,
    *,
    start: datetime,
    end: datetime,
    width: timedelta,
    group_by: Sequence[Dimension] = (),
    where: UsageFilter | None = None,
) -> Rows[UsageSum]:
    """Sums of the usage in [start, end), by bucket and group; a bucket without usage has no row.

    Buckets are `width` wide and counted from 1970 in UTC; `start` and `end` should lie on their
    edges, since a sum cannot be cut, and `width` is a whole number of minutes. Raises ReportTooLarge.
    """
    source = _HOURS if width % HOUR == timedelta(0) else _MINUTES
    table = source.columns
    dimensions = {
        "project_id": table.project_id,
        "user_id": ApiKey.user_id,
        "api_key_id": table.api_key_id,
        "model": table.model_id,
        "currency": table.currency,
    }
    groups: list[Label[Any]] = [dimensions[name].label(name) for name in group_by]
    sums = [
        _total(table.requests, "requests"),
        _total(table.input_tokens, "input_tokens"),
        _total(table.cached_input_tokens, "cached_input_tokens"),
        _total(table.output_tokens, "output_tokens"),
        func.sum(table.amount).label("amount"),
    ]
    # A bound parameter would make Postgres see two different expressions in SELECT and GROUP BY.
    step: ColumnElement[timedelta] = literal_column(f"interval '{int(width.total_seconds())} seconds'")
    bucket = func.date_bin(step, source.moment, literal_column("timestamptz 'epoch'")).label("bucket")
    query: Select[Any] = (
        select(bucket, *groups, *sums)
        .where(table.organization_id == organization_id, source.moment >= start, source.moment < end)
        .group_by(bucket, *groups)
        .order_by(bucket, *groups)
    )
    where = where or UsageFilter()
    if "user_id" in group_by or where.user_ids:
        query = query.join(ApiKey, ApiKey.id == table.api_key_id, isouter=True)
    return await read_rows(session, query.where(*_conditions(dimensions, where)), UsageSum)


async def newest_requests(
    session: AsyncSession, organization_id: UUID, *, project_id: UUID | None = None, limit: int = 20
) -> list[RequestCost]:
    """The requests settled last, newest first, of one project or of all; with what amended them."""
    event = _newest_events(organization_id, project_id, limit)
    query = (
        select(
            event.request_id,
            event.created_at,
            func.coalesce(UsageAmendment.status, event.status).label("status"),
            event.model_id.label("model"),
            Project.name.label("project"),
            ApiKey.name.label("api_key"),
            _amended(event.input_tokens, UsageAmendment.input_tokens),
            _amended(event.cached_input_tokens, UsageAmendment.cached_input_tokens),
            _amended(event.output_tokens, UsageAmendment.output_tokens),
            event.input_per_million,
            event.cached_input_per_million,
            event.output_per_million,
            _amended(event.amount, UsageAmendment.amount),
            event.currency,
            event.first_token_seconds,
        )
        .join(UsageAmendment, UsageAmendment.request_id == event.request_id, isouter=True)
        .join(Project, Project.id == event.project_id)
        .join(ApiKey, ApiKey.id == event.api_key_id)
        .order_by(event.created_at.desc(), event.request_id.desc())
    )
    return [RequestCost(**row) for row in (await session.execute(query)).mappings()]


def _newest_events(organization_id: UUID, project_id: UUID | None, limit: int) -> type[UsageEvent]:
    # Picked before they are joined to anything, in the order of an index and no finer one: so Postgres
    # follows it to the newest, however few events it believes that there are.
    query = select(UsageEvent).where(UsageEvent.organization_id == organization_id)
    if project_id is not None:
        query = query.where(UsageEvent.project_id == project_id)
    return aliased(UsageEvent, query.order_by(UsageEvent.created_at.desc()).limit(limit).subquery())


async def organizations_with_usage(session: AsyncSession, organization_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the organizations that have used anything or use it now; of all tenants, for the worker."""
    found: set[UUID] = set()
    for column in (UsageHour.organization_id, Hold.organization_id):
        found.update(await session.scalars(select(column).where(column.in_(organization_ids)).distinct()))
    return found


def bucket_floor(moment: datetime, width: timedelta) -> datetime:
    """The edge at or before `moment`: buckets are counted from 1970, so days begin at 00:00 UTC."""
    return moment - (moment - EPOCH) % width


def _total(column: ColumnElement[int], name: str) -> ColumnElement[int]:
    # Postgres's sum of bigint is numeric, which would come back as a Decimal.
    return cast(func.sum(column), BigInteger).label(name)


def _amended(column: InstrumentedAttribute[Any], difference: InstrumentedAttribute[Any]) -> Label[Any]:
    return (column + func.coalesce(difference, 0)).label(column.key)


def _conditions(columns: dict[str, Any], where: UsageFilter) -> list[ColumnElement[bool]]:
    wanted: dict[str, Sequence[object]] = {
        "project_id": where.project_ids,
        "user_id": where.user_ids,
        "api_key_id": where.api_key_ids,
        "model": where.models,
        "currency": [where.currency] if where.currency else [],
    }
    return [columns[name].in_(values) for name, values in wanted.items() if values]
