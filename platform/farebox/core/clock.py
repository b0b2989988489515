"""Time as the platform tells it. What decides about money asks Postgres's `now()` instead."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The present, with time zone UTC."""
    return datetime.now(UTC)


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second, with `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
