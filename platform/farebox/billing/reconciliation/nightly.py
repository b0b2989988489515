"""Reconciliation by the worker, once a night; and what became of the last one."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models import Reconciliation
from farebox.billing.reconciliation.books import Check
from farebox.billing.reconciliation.reconcile import CHECKS, Reconciled, reconcile
from farebox.core.database import Database, present

# When a night's run begins, after midnight in UTC.
BEGINS = timedelta(hours=3)

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('farebox.reconcile', 0))"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LastRun:
    """When the books were compared last, and how many differences there were."""

    finished_at: datetime
    differences: int


async def reconcile_nightly(database: Database, checks: tuple[Check, ...] = CHECKS) -> bool:
    """The worker's sweep, which takes minutes once a night; whether it was now.

    Of several workers one does it. One that dies leaves the night to the next.
    """
    async with database.meter_transaction() as session:
        day = await _due(session)
    if day is None:
        return False
    async with database.long_reading() as connection:
        # The lock goes with the connection.
        if not await connection.fetchval(_TRY_LOCK):
            return False
        async with database.meter_transaction() as session:
            if await _due(session) is None:
                return False
        done = await reconcile(database, checks=checks)
        # At once: what was found must not go with the lock's connection.
        _tell(done)
        async with database.meter_transaction() as session:
            await _note(session, day, done)
    return True


async def last_run(session: AsyncSession) -> LastRun | None:
    """What became of the last one; None before the first."""
    columns = (Reconciliation.finished_at, Reconciliation.differences)
    row = (await session.execute(select(*columns).order_by(Reconciliation.day.desc()).limit(1))).one_or_none()
    return None if row is None else LastRun(*row)


async def _due(session: AsyncSession) -> date | None:
    """The day whose run is to be done."""
    day = (await present(session) - BEGINS).date()
    return day if await session.get(Reconciliation, day) is None else None


async def _note(session: AsyncSession, day: date, done: Reconciled) -> None:
    values = {
        "day": day,
        "finished_at": await present(session),
        "seconds": done.seconds,
        "differences": done.differences,
    }
    await session.execute(insert(Reconciliation).values(values).on_conflict_do_nothing())


def _tell(done: Reconciled) -> None:
    for finding in done.findings:
        if finding.count:
            named = [{**each.of, **each.says} for each in finding.differences[:10]]
            log.error(
                "reconciliation.differences", check=finding.check, count=finding.count, differences=named
            )
    log.info("reconciliation.done", differences=done.differences, seconds=round(done.seconds, 1))
