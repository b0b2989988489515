"""A bar chart as numbers that a template draws in SVG: the Content-Security-Policy allows no inline style."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

WIDTH = 1000
HEIGHT = 200
_GAP = 0.22  # of a bar's place


@dataclass(frozen=True)
class Bar:
    """Where a bar stands, in a box of WIDTH by HEIGHT with its origin at the top left."""

    x: float
    y: float
    width: float
    height: float
    place: float
    start: datetime
    label: str


@dataclass(frozen=True)
class Chart:
    """Bars from oldest to newest; `ticks` are axis labels from the top down, zero last."""

    bars: Sequence[Bar]
    place_width: float
    ticks: Sequence[str]
    empty: bool


def bar_chart(
    values: Sequence[tuple[datetime, Decimal]],
    label: Callable[[Decimal], str],
    tick: Callable[[Decimal], str],
) -> Chart:
    """Lay out one bar for each value; `label` writes a value in full, `tick` briefly for the axis."""
    top = _round_up(max((value for _, value in values), default=Decimal(0)))
    place = WIDTH / max(1, len(values))
    bars = []
    for index, (start, value) in enumerate(values):
        # A value above zero stays visible beside large ones.
        height = round(max(float(value / top) * HEIGHT, 2.0), 2) if value else 0.0
        bars.append(
            Bar(
                x=round(index * place + place * _GAP / 2, 2),
                y=round(HEIGHT - height, 2),
                width=round(place * (1 - _GAP), 2),
                height=height,
                place=round(index * place, 2),
                start=start,
                label=label(value),
            )
        )
    empty = not any(value for _, value in values)
    ticks = ["", "", label(Decimal(0))] if empty else [tick(top), tick(top / 2), tick(Decimal(0))]
    return Chart(bars, round(place, 2), ticks, empty)


def _round_up(value: Decimal) -> Decimal:
    """The next of 1, 2, 4, 6, 8 times a power of ten: both it and its half read well on an axis."""
    if value <= 0:
        return Decimal(1)
    power = Decimal(1).scaleb(value.adjusted())
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if value <= step * power)
