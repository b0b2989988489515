"""Exports that customers ask for: asked for, looked at, forgotten after a week.

Sessions come from `Database.transaction` of the organization, unless it says otherwise.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from farebox.billing.exports.errors import ExportNotFound, ExportUnderWay, TooManyExports
from farebox.billing.exports.kinds import kind_of, period
from farebox.billing.exports.models import Export, ExportPart
from farebox.billing.exports.schemas import NewExport
from farebox.core import outbox
from farebox.core.database import Database, present
from farebox.core.ids import new_id

TOPIC = "export.write"
MAX_UNDER_WAY = 2
KEPT = timedelta(days=7)
# Of one organization, at a time.
MAX_KEPT = 100
MAX_KEPT_BYTES = 5_000_000_000
LONGEST = timedelta(days=1)
UNDER_WAY = ("queued", "running")
LISTED = 100
PARTS_LISTED = 1000

log = structlog.get_logger(__name__)


async def request_export(session: AsyncSession, organization_id: UUID, asked: NewExport) -> Export:
    """Note an export for the worker. Raises InvalidExport, ExportUnderWay beyond MAX_UNDER_WAY, and
    TooManyExports beyond what is kept: exports under way may still go over MAX_KEPT_BYTES."""
    kind_of(asked.listing, asked.format)
    span = period(
        _moment(asked.start_time),
        None if asked.end_time is None else _moment(asked.end_time),
        await present(session),
    )
    await _one_at_a_time(session, organization_id)
    await _refuse_too_many_under_way(session, organization_id)
    await _refuse_too_much(session, organization_id)
    # No more columns than these: the others are the worker's to write.
    adding = insert(Export).values(
        id=new_id(),
        organization_id=organization_id,
        listing=asked.listing,
        format=asked.format,
        starts_at=span.start,
        ends_at=span.end,
        rows_per_part=asked.rows_per_part,
    )
    export = (await session.scalars(adding.returning(Export))).one()
    await outbox.post(session, TOPIC, {"export_id": export.id.hex})
    log.info("export.requested", organization_id=str(organization_id), export_id=str(export.id))
    return export


async def list_exports(session: AsyncSession, organization_id: UUID) -> list[Export]:
    """The newest first, LISTED at most."""
    query = (
        select(Export)
        .where(Export.organization_id == organization_id)
        .order_by(Export.created_at.desc(), Export.id.desc())
        .limit(LISTED)
    )
    return list(await session.scalars(query))


async def find_export(session: AsyncSession, organization_id: UUID, export_id: UUID) -> Export:
    """Raises ExportNotFound, also for another organization's."""
    query = select(Export).where(Export.organization_id == organization_id, Export.id == export_id)
    export = await session.scalar(query)
    if export is None:
        raise ExportNotFound
    return export


async def parts_of(session: AsyncSession, export: Export, after: int = 0) -> Sequence[ExportPart]:
    """Those of a completed export, PARTS_LISTED at most; none of one that may still fail."""
    if export.status != "completed":
        return []
    query = (
        select(ExportPart)
        .where(ExportPart.export_id == export.id, ExportPart.number > after)
        .order_by(ExportPart.number)
        .limit(PARTS_LISTED)
    )
    return list(await session.scalars(query))


async def read_part(
    session: AsyncSession, organization_id: UUID, export_id: UUID, number: int
) -> tuple[Export, ExportPart]:
    """A part with its content. Raises ExportNotFound."""
    export = await find_export(session, organization_id, export_id)
    query = select(ExportPart).where(ExportPart.export_id == export_id, ExportPart.number == number)
    part = await session.scalar(query.options(undefer(ExportPart.content)))
    if part is None or export.status != "completed":
        raise ExportNotFound
    return export, part


async def forget_old_exports(database: Database) -> int:
    """The worker's sweep: exports are kept for a week; how many are gone. What was not completed within a day
    never will be: the worker has given it up."""
    async with database.meter_transaction() as session:
        now = await present(session)
        await session.execute(
            update(Export)
            .where(Export.status.in_(UNDER_WAY), Export.created_at < now - LONGEST)
            .values(status="failed", failure="It was not completed within a day.")
        )
        old = Export.created_at < now - KEPT
        gone = await session.scalars(delete(Export).where(old).returning(Export.id))
        return len(list(gone))


async def _one_at_a_time(session: AsyncSession, organization_id: UUID) -> None:
    """Two requests at once must not both find room."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"export {organization_id}"},
    )


async def _refuse_too_many_under_way(session: AsyncSession, organization_id: UUID) -> None:
    query = select(func.count()).where(
        Export.organization_id == organization_id, Export.status.in_(UNDER_WAY)
    )
    if (await session.scalar(query) or 0) >= MAX_UNDER_WAY:
        raise ExportUnderWay(MAX_UNDER_WAY)


async def _refuse_too_much(session: AsyncSession, organization_id: UUID) -> None:
    """Whatever is there counts, failed exports too: `forget_old_exports` takes away what is old."""
    own = Export.organization_id == organization_id
    number = select(func.count()).where(own)
    size = select(func.coalesce(func.sum(ExportPart.size), 0)).join(Export, Export.id == ExportPart.export_id)
    if (await session.scalar(number) or 0) < MAX_KEPT and (
        await session.scalar(size.where(own)) or 0
    ) < MAX_KEPT_BYTES:
        return
    raise TooManyExports(MAX_KEPT, MAX_KEPT_BYTES, KEPT.days)


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
