"""Billing periods: whole intervals from an anchor, on the last day of months that are too short."""

import calendar
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from tests.stripe_server.wire.errors import Json

_MONTHS = {"month": 1, "year": 12}
_DAYS = {"day": 1, "week": 7}


def later(anchor: int, interval: str, count: int) -> int:
    """So many intervals after an instant, in seconds since the epoch."""
    start = datetime.fromtimestamp(anchor, UTC)
    if interval in _DAYS:
        return int((start + timedelta(days=_DAYS[interval] * count)).timestamp())
    months = start.year * 12 + start.month - 1 + _MONTHS[interval] * count
    year, month = divmod(months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return int(start.replace(year=year, month=month + 1, day=day).timestamp())


def end_of_period(anchor: int, start: int, price: Json) -> int:
    """Where the period ends that begins at `start`: the next of the anchor's instants."""
    recurring = price["recurring"]
    step, turns = recurring["interval_count"], 1
    while later(anchor, recurring["interval"], step * turns) <= start:
        turns += 1
    return later(anchor, recurring["interval"], step * turns)


def share_left(item: Json, now: int) -> Fraction:
    """Which part of an item's period is still to come."""
    start, end = item["current_period_start"], item["current_period_end"]
    return Fraction(end - now, end - start)
