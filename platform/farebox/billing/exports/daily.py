"""A folder with an export of each day, for the operator's own tools: `FAREBOX_EXPORTS_FOLDER`.

The worker's sweep writes what lacks of the newest days, so many parts at a time: the next turn goes on. One
worker writes at a time, by a lock of Postgres.
"""

from datetime import datetime, timedelta
from pathlib import Path

import structlog

from farebox.billing.exports.errors import InvalidExport, UnbalancedExport
from farebox.billing.exports.folder import MANIFEST, export_to_folder
from farebox.billing.exports.kinds import newest_end
from farebox.billing.exports.manifest import Ask
from farebox.core.database import Database, open_connection, present
from farebox.core.settings import Settings

DAY = timedelta(days=1)
# A worker that was away for a week catches up.
DAYS = 7
PART_ROWS = 100_000

log = structlog.get_logger(__name__)


async def export_days(database: Database, settings: Settings) -> int:
    """Write the days that are due; how many have become whole."""
    if settings.exports_folder is None:
        return 0
    async with database.meter_transaction() as session:
        closed = newest_end(await present(session))
    midnight = closed.replace(hour=0)
    lock = await open_connection(database.url, "farebox_meter")
    try:
        if not await lock.fetchval("SELECT pg_try_advisory_lock(hashtextextended('farebox exports', 0))"):
            return 0
        return await _write(database, settings, Path(settings.exports_folder), midnight)
    finally:
        lock.terminate()


async def _write(database: Database, settings: Settings, folder: Path, midnight: datetime) -> int:
    whole = 0
    for back in range(DAYS, 0, -1):
        start = midnight - back * DAY
        place = folder / f"{start:%Y-%m-%d}"
        if (place / MANIFEST).exists():
            continue
        ask = Ask(table="cost", format="focus", start=start, end=start + DAY, rows_per_part=PART_ROWS)
        try:
            made = await export_to_folder(database.url, ask, place, provider=settings.provider_name)
        except (UnbalancedExport, InvalidExport, OSError) as error:
            # Other days, and other sweeps, are not to wait for this one.
            log.error("export.day_failed", day=f"{start:%Y-%m-%d}", reason=str(error))
            continue
        log.info("export.day", day=f"{start:%Y-%m-%d}", rows=made.rows)
        whole += 1
    return whole
