"""Sealing hours that are over: by any worker, each hour once, in their order, without a gap.

An entry's `created_at` is read in the transaction that books it. So an hour is complete when it is over and
every transaction that may have read the clock in it has ended. Such a transaction has an id by then: it locks
rows before it reads the clock. When an hour is over, a transaction notes its own id. When no transaction is
under way with a smaller one, all that were under way then have ended. Nobody waits, and nothing is locked.

That holds for a clock that goes forward. GRACE is how far it may be set back without harm.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import BigInteger, ColumnElement, String, cast, delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import Database, present
from farebox.metering.models import SealHorizon, UsageOrganizationSeal, UsageSeal
from farebox.metering.seals.chain import GENESIS, HOUR, HourRoots, close_hour, seal_of
from farebox.metering.seals.roots import Connection, first_entry, organization_roots, used_hours

GRACE = timedelta(minutes=5)
DAY = timedelta(days=1)
# Rows in one statement.
INSERTED_AT_ONCE = 1_000

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('farebox.seal', 0))"

log = structlog.get_logger(__name__)


async def seal_hours(database: Database) -> int:
    """The worker's sweep: seal all hours that are complete; how many these were."""
    async with database.meter_transaction() as session:
        await _note_horizon(session)
    async with database.meter_transaction() as session:
        until = await _complete_until(session)
    if until is None:
        return 0
    async with database.long_reading() as connection:
        # Another worker's work is not done twice; the lock goes with the connection.
        if not await connection.fetchval(_TRY_LOCK):
            return 0
        sealed = 0
        async for hours in _waiting(database, connection, until):
            sealed += await _seal(database, hours)
    async with database.meter_transaction() as session:
        await session.execute(delete(SealHorizon).where(SealHorizon.until <= until))
    if sealed:
        log.info("usage.sealed", hours=sealed, until=until.isoformat())
    return sealed


def hour_of(moment: datetime) -> datetime:
    """Where its hour begins. Hours are those of UTC."""
    return moment.replace(minute=0, second=0, microsecond=0)


async def newest_seal(session: AsyncSession) -> UsageSeal | None:
    """The end of the chain."""
    newest: UsageSeal | None = await session.scalar(
        select(UsageSeal).order_by(UsageSeal.hour.desc()).limit(1)
    )
    return newest


async def _note_horizon(session: AsyncSession) -> None:
    """Note of the hours that are over which transactions may still write in them."""
    # The clock first: an id that is given after it has been read is above those of all who read it before.
    over = hour_of(await present(session) - GRACE)
    newest = await newest_seal(session)
    if newest is not None and over <= newest.hour + HOUR:
        return
    # Of another Postgres, whose backup this is: there are no such transactions here.
    ahead = _as_number(func.pg_snapshot_xmax(func.pg_current_snapshot()))
    await session.execute(delete(SealHorizon).where(SealHorizon.transaction_id >= ahead))
    own_id = _as_number(func.pg_current_xact_id())
    await session.execute(
        upsert(SealHorizon).values(until=over, transaction_id=own_id).on_conflict_do_nothing()
    )


async def _complete_until(session: AsyncSession) -> datetime | None:
    """All hours before it are complete; None where none is that waits for its seal."""
    oldest = _as_number(func.pg_snapshot_xmin(func.pg_current_snapshot()))
    until: datetime | None = await session.scalar(
        select(func.max(SealHorizon.until)).where(SealHorizon.transaction_id < oldest)
    )
    return until


def _as_number(transaction_id: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(cast(transaction_id, String), BigInteger)


async def _waiting(
    database: Database, connection: Connection, until: datetime
) -> AsyncIterator[list[HourRoots]]:
    """The hours that wait for their seals, in their order: one that is used, with those before it that are
    empty, at a time."""
    async with database.meter_transaction() as session:
        newest = await newest_seal(session)
    if newest is not None:
        start = newest.hour + HOUR
    else:
        start = hour_of(min(await first_entry(connection) or until, until - HOUR))
    while start < until:
        end = min(start + DAY, until)
        used = await used_hours(connection, start, end)
        pending = []
        for hour in (start + number * HOUR for number in range((end - start) // HOUR)):
            pending.append(await _read_hour(connection, hour, used=hour in used))
            if hour in used:
                yield pending
                pending = []
        if pending:
            yield pending
        start = end


async def _read_hour(connection: Connection, hour: datetime, *, used: bool) -> HourRoots:
    return close_hour(hour, [each async for each in organization_roots(connection, hour)] if used else [])


async def _seal(database: Database, hours: list[HourRoots]) -> int:
    """Add hours that follow each other to the chain; how many. None if another worker was quicker."""
    async with database.meter_transaction() as session:
        newest = await newest_seal(session)
        if newest is not None and newest.hour + HOUR != hours[0].hour:
            return 0
        previous = GENESIS if newest is None else newest.seal
        for hour in hours:
            seal = seal_of(previous, hour.hour, hour.root)
            session.add(
                UsageSeal(hour=hour.hour, entries=hour.entries, root=hour.root, previous=previous, seal=seal)
            )
            previous = seal
        await session.flush()
        rows = [
            {
                "organization_id": each.organization_id,
                "hour": hour.hour,
                "entries": each.entries,
                "root": each.root,
                "path": path,
            }
            for hour in hours
            for each, path in zip(hour.organizations, hour.paths, strict=True)
        ]
        for start in range(0, len(rows), INSERTED_AT_ONCE):
            await session.execute(insert(UsageOrganizationSeal), rows[start : start + INSERTED_AT_ONCE])
    return len(hours)
