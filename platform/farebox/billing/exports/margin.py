"""What was earned beside what the devices cost, by day, organization and model. For the operator alone.

A device hour costs what the setting says. Of a batch each request has its share of the device's seconds, so
that their sum is how long it was busy; what it stood idle is in no row.
"""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from farebox.billing.exports.cells import csv_lines
from farebox.billing.exports.folder import open_draft
from farebox.core.database import open_connection
from farebox.core.ids import external
from farebox.usage.device_time import DeviceDay, device_day

DAY = timedelta(days=1)
_HOUR_SECONDS = 3600
# Of a cost: a millionth of a cent is more than a clock of seconds can tell.
_COST = Decimal("0.00000001")


@dataclass(frozen=True, kw_only=True)
class Margin:
    """A day's revenue and device cost; `margin` is a share of the revenue, None without any."""

    day: date
    organization_id: str
    organization: str | None
    model: str
    currency: str
    requests: int
    tokens: int
    revenue: Decimal
    device_seconds: Decimal
    device_cost: Decimal
    profit: Decimal
    margin: Decimal | None


async def margins(
    url: str,
    start: datetime,
    end: datetime,
    *,
    cost_per_hour: Decimal,
    currency: str,
    organization_id: UUID | None = None,
) -> AsyncIterator[Margin]:
    """Day by day from `start`, which begins one.

    `cost_per_hour` is in `currency`: what was sold in another one has device time, and no cost.
    """
    connection = await open_connection(url, "farebox_meter")
    try:
        while start < end:
            async for row in device_day(connection, start, min(start + DAY, end), organization_id):
                yield margin_of(start.date(), row, cost_per_hour if row.currency == currency else Decimal(0))
            start += DAY
    finally:
        connection.terminate()


def margin_of(day: date, row: DeviceDay, cost_per_hour: Decimal) -> Margin:
    """Seconds to a thousandth, the cost to eight decimals."""
    seconds = Decimal(row.device_seconds).quantize(Decimal("0.001"))
    cost = (seconds * cost_per_hour / _HOUR_SECONDS).quantize(_COST)
    profit = row.revenue - cost
    share = (profit / row.revenue).quantize(Decimal("0.0001")) if row.revenue > 0 else None
    return Margin(
        day=day,
        organization_id=external("org", row.organization_id),
        organization=row.organization,
        model=row.model,
        currency=row.currency,
        requests=row.requests,
        tokens=row.tokens,
        revenue=row.revenue,
        device_seconds=seconds,
        device_cost=cost,
        profit=profit,
        margin=share,
    )


async def write_margins(rows: AsyncIterator[Margin], path: Path) -> int:
    """As CSV, which is there when it is whole; how many rows."""
    count = 0
    names = list(Margin.__dataclass_fields__)
    with open_draft(path.parent, path.name) as file:
        file.write(csv_lines([names]))
        async for row in rows:
            file.write(csv_lines([list(asdict(row).values())]))
            count += 1
    return count
