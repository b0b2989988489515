"""The chart's geometry and the pages' ways to write numbers."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dashboard.chart import HEIGHT, WIDTH, bar_chart
from farebox.dashboard.formats import count_brief, money, money_brief, seconds

START = datetime(2025, 1, 1, tzinfo=UTC)
AMOUNTS = st.lists(st.decimals(0, 10**15, places=12), min_size=1, max_size=40)


@given(AMOUNTS)
def test_bars_stay_inside_the_box_in_order(amounts: list[Decimal]) -> None:
    values = [(START + n * timedelta(hours=1), amount) for n, amount in enumerate(amounts)]
    chart = bar_chart(values, label=str, tick=str)
    for bar, (start, amount) in zip(chart.bars, values, strict=True):
        assert bar.start == start
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH + 0.01
        assert bar.y + bar.height == pytest.approx(HEIGHT)
        assert (bar.height > 0) == (amount > 0)
        assert bar.height <= HEIGHT
    assert chart.empty == (max(amounts) == 0)


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [
        ("0.97", ["1", "0.5", "0"]),
        ("4.2", ["6", "3", "0"]),
        ("81", ["1E+2", "5E+1", "0"]),
        ("8", ["8", "4", "0"]),
    ],
)
def test_the_axis_ends_on_a_round_number(largest: str, ticks: list[str]) -> None:
    chart = bar_chart([(START, Decimal(largest))], label=str, tick=str)
    assert [Decimal(each) for each in chart.ticks] == [Decimal(each) for each in ticks]


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("4E+2", "400"),
        ("0", "0"),
        ("0.5", "0.5"),
        ("12", "12"),
        ("1E+3", "1k"),
        ("2E+5", "200k"),
        ("999999", "1000k"),
        ("6E+7", "60M"),
        ("1.25E+9", "1.25B"),
        ("4E+14", "400000B"),
    ],
)
def test_a_count_on_an_axis_has_no_exponent(number: str, written: str) -> None:
    assert count_brief(Decimal(number)) == written


@pytest.mark.parametrize(
    ("amount", "exact", "brief"),
    [
        ("0.0018145", "$0.0018145", "$0.001814"),
        ("0", "$0.00", "$0.00"),
        ("1234567.125", "$1,234,567.125", "$1,234,567.12"),
        ("-2.5", "-$2.50", "-$2.50"),
        ("0.000000000001", "$0.000000000001", "$0.00"),
    ],
)
def test_money_is_written_exactly_or_briefly(amount: str, exact: str, brief: str) -> None:
    assert money(Decimal(amount), "USD") == exact
    assert money_brief(Decimal(amount), "USD") == brief


@pytest.mark.parametrize(
    ("amount", "currency", "exact", "brief"),
    [
        ("5", "EUR", "€5.00", "€5.00"),
        ("5", "CHF", "CHF 5.00", "CHF 5.00"),
        ("1234.5", "JPY", "¥1,234.5", "¥1,234"),
        ("0.0018", "JPY", "¥0.0018", "¥0.0018"),
        ("-3", "JPY", "-¥3", "-¥3"),
        ("0", "JPY", "¥0", "¥0"),
        ("5.0005", "KWD", "KWD 5.0005", "KWD 5.000"),
        ("1000000", "KRW", "₩1,000,000", "₩1,000,000"),
        ("5", "XXQ", "XXQ 5.00", "XXQ 5.00"),
        (
            "123456789012345678.123456789012",
            "USD",
            "$123,456,789,012,345,678.123456789012",
            "$123,456,789,012,345,678.12",
        ),
    ],
)
def test_money_is_written_as_its_currency_is(amount: str, currency: str, exact: str, brief: str) -> None:
    assert money(Decimal(amount), currency) == exact
    assert money_brief(Decimal(amount), currency) == brief


def test_small_things() -> None:
    assert [count_brief(n) for n in (0, 12, 1500, 2_000_000, 10**9)] == ["0", "12", "1.5k", "2M", "1B"]
    assert [seconds(None), seconds(0.0841), seconds(1.318)] == ["–", "84 ms", "1.32 s"]
