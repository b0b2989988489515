"""UTC months, by which fees are due and invoices are made."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month in UTC; `2026-12` as text."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """When the next one starts."""
        return self.next.start

    @property
    def next(self) -> "Month":
        return Month(self.year + 1, 1) if self.number == 12 else Month(self.year, self.number + 1)

    @property
    def before(self) -> "Month":
        return Month(self.year - 1, 12) if self.number == 1 else Month(self.year, self.number - 1)


def month_of(moment: datetime) -> Month:
    utc = moment.astimezone(UTC)
    return Month(utc.year, utc.month)


def read_month(text: str) -> Month:
    """`2026-12`. Raises ValueError."""
    moment = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    return Month(moment.year, moment.month)
