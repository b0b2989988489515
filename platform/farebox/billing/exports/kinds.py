"""Which exports there are: what they list, in which formats, of which time."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from farebox.billing.exports.errors import InvalidExport
from farebox.billing.exports.formats import CSV, JSONL, PARQUET, Format
from farebox.billing.exports.layouts.focus import focus
from farebox.billing.exports.layouts.layout import Layout, Period
from farebox.billing.exports.layouts.plain import COST_LAYOUT, JOURNAL_LAYOUT, USAGE_LAYOUT
from farebox.core.clock import iso

HOUR = timedelta(hours=1)
# A settlement that began in an hour has ended by then: Postgres ends what takes longer.
GRACE = timedelta(minutes=1)
MAX_SPAN = timedelta(days=366)


@dataclass(frozen=True)
class Kind:
    """A table in a format."""

    layout: Layout
    format: Format


KINDS: dict[tuple[str, str], Kind] = {
    ("usage", "csv"): Kind(USAGE_LAYOUT, CSV),
    ("usage", "jsonl"): Kind(USAGE_LAYOUT, JSONL),
    ("usage", "parquet"): Kind(USAGE_LAYOUT, PARQUET),
    ("cost", "csv"): Kind(COST_LAYOUT, CSV),
    ("cost", "jsonl"): Kind(COST_LAYOUT, JSONL),
    ("cost", "parquet"): Kind(COST_LAYOUT, PARQUET),
    ("cost", "focus"): Kind(focus(), CSV),
    ("cost", "focus-1.3"): Kind(focus(since_1_3=True), CSV),
    ("cost", "focus-jsonl"): Kind(focus(), JSONL),
    ("cost", "focus-parquet"): Kind(focus(), PARQUET),
    ("journal", "csv"): Kind(JOURNAL_LAYOUT, CSV),
    ("journal", "jsonl"): Kind(JOURNAL_LAYOUT, JSONL),
}


JOURNAL = KINDS["journal", "csv"]


def kind_of(table: str, format_: str) -> Kind:
    """Raises InvalidExport."""
    if (table, format_) not in KINDS:
        known = ", ".join(name for each, name in KINDS if each == table)
        raise InvalidExport(f"The formats of {table} are {known}.", param="format")
    return KINDS[table, format_]


def newest_end(now: datetime) -> datetime:
    """Until when the books are closed: no settlement adds to an hour that ended by then."""
    return (now - GRACE).replace(minute=0, second=0, microsecond=0)


def period(start: datetime, end: datetime | None, now: datetime) -> Period:
    """The whole hours from `start` to `end`, or to the newest that is over. Raises InvalidExport."""
    closed = newest_end(now)
    end = closed if end is None else end
    for name, moment in (("start_time", start), ("end_time", end)):
        if moment != moment.replace(minute=0, second=0, microsecond=0):
            raise InvalidExport("An export is of whole hours.", param=name)
    if end > closed:
        raise InvalidExport(f"Hours are exported when they are over: up to {iso(closed)}.", param="end_time")
    if start >= end:
        raise InvalidExport("The export's end is not after its start.", param="end_time")
    if end - start > MAX_SPAN:
        raise InvalidExport(f"An export spans at most {MAX_SPAN.days} days.", param="start_time")
    return Period(start, end)
