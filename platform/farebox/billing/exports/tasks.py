"""What the worker does for exports: so many parts at a time, each kept in a transaction of its own.

A slice that fails is tried again by the outbox, from the last part that was kept. Parts lie in Postgres,
which all servers share.
"""

import io
from dataclasses import dataclass
from typing import IO, Any
from uuid import UUID

import structlog
from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert

from farebox.billing.exports.balance import check_balance, ledger_sums
from farebox.billing.exports.errors import InvalidExport, UnbalancedExport
from farebox.billing.exports.kinds import Kind, kind_of
from farebox.billing.exports.layouts.layout import Period, Source
from farebox.billing.exports.manifest import read_sums, spelled
from farebox.billing.exports.models import Export, ExportPart
from farebox.billing.exports.service import TOPIC
from farebox.billing.exports.stream import Cut, Limits, Part, Place, reading, write_parts
from farebox.billing.exports.tally import added
from farebox.core import outbox
from farebox.core.database import Database, present
from farebox.core.outbox import Handler
from farebox.core.settings import Settings

# Of ten thousand rows or two megabytes: what others take at a time.
PART_BYTES = 2_000_000
# What the worker's time for an item suffices for many times over.
SLICE_PARTS = 50
MAX_ROWS = 5_000_000
_SECONDS = 40.0

log = structlog.get_logger(__name__)


async def write_export(database: Database, settings: Settings, payload: dict[str, Any]) -> None:
    """Write the next parts of an export, and post what is left; at the end, check it against the ledger."""
    export = await _begin(database, UUID(payload["export_id"]))
    if export is None:
        return
    try:
        await _write_slice(database, settings, export)
    except (InvalidExport, UnbalancedExport) as error:
        await _fail(database, export.id, error.message)


async def _begin(database: Database, export_id: UUID) -> Export | None:
    """The export, if there is something to do for it."""
    async with database.meter_transaction() as session:
        export = await session.get(Export, export_id, with_for_update=True)
        if export is None or export.status not in ("queued", "running"):
            return None
        export.status = "running"
        return export


async def _write_slice(database: Database, settings: Settings, export: Export) -> None:
    kind = kind_of(export.listing, export.format)
    if export.rows > MAX_ROWS:
        raise InvalidExport(f"The export has over {MAX_ROWS:,} rows; ask for a shorter period.")
    source = Source(Period(export.starts_at, export.ends_at), export.organization_id, settings.provider_name)
    cut = Cut(
        kind.layout,
        kind.format,
        source,
        Limits(export.rows_per_part, PART_BYTES),
        Place(export.section, export.section_row),
        export.parts + 1,
    )
    shelf = _DatabaseShelf(database, export, kind)
    async with reading(database.url, source) as connection:
        if not await write_parts(connection, cut, shelf, _SECONDS):
            return
        ledger = await ledger_sums(connection, kind.layout, source, _SECONDS)
    await _finish(database, export.id, kind, ledger)


async def _finish(database: Database, export_id: UUID, kind: Kind, ledger: Any) -> None:
    async with database.meter_transaction() as session:
        export = await session.get_one(Export, export_id, with_for_update=True)
        check_balance(kind.layout, read_sums(kind.layout, export.sums), ledger)
        if export.status == "running":
            export.status, export.completed_at = "completed", await present(session)
            log.info("export.completed", export_id=str(export_id), rows=export.rows, parts=export.parts)


async def _fail(database: Database, export_id: UUID, reason: str) -> None:
    log.error("export.failed", export_id=str(export_id), reason=reason)
    async with database.meter_transaction() as session:
        await session.execute(
            update(Export).where(Export.id == export_id).values(status="failed", failure=reason)
        )


@dataclass
class _DatabaseShelf:
    """Parts as rows. The last one of a slice posts the next slice, in the transaction that keeps it."""

    database: Database
    export: Export
    kind: Kind

    def open(self, number: int) -> IO[bytes]:
        self._file = io.BytesIO()
        self._last = number >= self.export.parts + SLICE_PARTS
        return self._file

    def discard(self) -> None:
        pass

    async def close(self, part: Part) -> bool:
        async with self.database.meter_transaction() as session:
            export = await session.get(Export, self.export.id, with_for_update=True)
            if export is None or export.parts != part.number - 1:
                # Another worker was faster, or the export is gone.
                return False
            await session.execute(insert(ExportPart).values(self._row(part)))
            export.section, export.section_row = part.next.section, part.next.row
            export.rows += part.rows
            export.parts = part.number
            sums = added([read_sums(self.kind.layout, export.sums), part.sums])
            export.sums = spelled(self.kind.layout, sums)
            if self._last:
                await outbox.post(session, TOPIC, {"export_id": export.id.hex})
        return not self._last

    def _row(self, part: Part) -> dict[str, Any]:
        return {
            "export_id": self.export.id,
            "number": part.number,
            "organization_id": self.export.organization_id,
            "rows": part.rows,
            "size": part.bytes,
            "sha256": part.sha256,
            "sums": spelled(self.kind.layout, part.sums),
            "content": self._file.getvalue(),
        }


HANDLERS: dict[str, Handler] = {TOPIC: write_export}
