"""Which buckets a page of usage holds, and the cursor that leads to the next page."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from farebox.core import base64url
from farebox.core.clock import utc_now
from farebox.core.errors import BadRequest
from farebox.usage.queries import bucket_floor

_CURSOR = "page_"


@dataclass(frozen=True)
class BucketPage:
    """Buckets from `start` to `end`, each `width` wide; `after` is where the next page begins."""

    start: datetime
    end: datetime
    width: timedelta
    after: datetime | None

    def __iter__(self) -> Iterator[datetime]:
        edge = self.start
        while edge < self.end:
            yield edge
            edge += self.width

    @property
    def next_page(self) -> str | None:
        """The cursor; it names the next bucket's start and holds nothing secret."""
        if self.after is None:
            return None
        return _CURSOR + base64url.encode(str(int(self.after.timestamp())).encode())


def bucket_page(
    start_time: int, end_time: int | None, width: timedelta, limit: int, page: str | None
) -> BucketPage:
    """The page asked for. Buckets that overlap the range are whole; none lies in the future.

    Raises BadRequest naming `end_time` or `page`.
    """
    if end_time is not None and end_time <= start_time:
        raise BadRequest(
            "`end_time` must be later than `start_time`.", param="end_time", code="invalid_value"
        )
    start = bucket_floor(datetime.fromtimestamp(start_time, UTC), width)
    last = utc_now()
    if end_time is not None:
        last = min(last, datetime.fromtimestamp(end_time - 1, UTC))
    end = max(start, bucket_floor(last, width) + width)
    if page is not None:
        start = _position(page, start, end, width)
    stop = min(end, start + limit * width)
    return BucketPage(start, stop, width, stop if stop < end else None)


def _position(page: str, start: datetime, end: datetime, width: timedelta) -> datetime:
    try:
        digits = base64url.decode(page.removeprefix(_CURSOR))
        position = datetime.fromtimestamp(int(digits), UTC)
    except (ValueError, OverflowError, OSError):
        position = None
    if position is None or not start <= position < end or position != bucket_floor(position, width):
        raise BadRequest(
            "`page` is not a cursor of this query; pass the `next_page` of the answer before it.",
            param="page",
            code="invalid_value",
        )
    return position
