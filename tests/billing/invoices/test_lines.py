"""Rounding and sums of lines, against a reference that anybody can follow."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.billing.invoices.months.lines import fee_line, lines_of, sum_up, usage_line
from farebox.billing.invoices.months.movements import Fee
from farebox.core.ids import new_id
from farebox.usage.monthly import MonthlySum
from tests.billing.invoices.books import MONTH

MINOR_UNITS = {"USD": 100, "EUR": 100, "CNY": 100, "JPY": 1}
AMOUNTS = st.decimals(min_value=Decimal("-1000"), max_value=Decimal("100000000"), places=12, allow_nan=False)
CURRENCIES = st.sampled_from(sorted(MINOR_UNITS))
PROJECT = new_id()

D = Decimal


def used(amount: Decimal, model: str = "demo") -> MonthlySum:
    return MonthlySum(
        project_id=PROJECT,
        model=model,
        usage_class="output_tokens",
        quantity=1_048_211,
        amount=amount,
        unit_price=None,
    )


def fee(amount: Decimal) -> Fee:
    return Fee(at=MONTH.start, account="revenue:team plan", amount=amount, drawn=Decimal(0))


def half_to_even(amount: Decimal, units: int) -> Fraction:
    """In minor units, by counting: down, and up if more than half is left, or half and the lower is odd."""
    exact = Fraction(amount) * units
    lower = exact.numerator // exact.denominator
    rest = exact - lower
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and lower % 2 == 1)
    return Fraction(lower + int(up), units)


@given(amounts=st.lists(AMOUNTS, max_size=60), currency=CURRENCIES, share=st.integers(0, 4))
def test_what_is_due_is_what_the_lines_say(amounts: list[Decimal], currency: str, share: int) -> None:
    units = MINOR_UNITS[currency]
    lines = lines_of(map(used, amounts), [], {PROJECT: "Default"}, currency)
    exact = sum(amounts, Decimal(0))
    drawn = (exact * share / 4).quantize(Decimal("1E-12"), rounding=ROUND_HALF_EVEN)
    sums = sum_up(lines, drawn, currency)
    assert [Fraction(line.amount) for line in lines] == [half_to_even(each, units) for each in amounts]
    assert sums.exact == exact
    assert Fraction(sums.total) == sum((half_to_even(each, units) for each in amounts), Fraction(0))
    assert sums.total == sums.paid_from_balance + sums.due
    assert sums.due == drawn + sums.rounding
    assert Fraction(abs(sums.total - exact)) <= Fraction(len(amounts), 2 * units)
    assert Fraction(abs(sums.rounding)) <= Fraction(len(amounts) + 1, 2 * units)
    assert Fraction(sums.due) * units % 1 == 0
    if drawn == 0:
        assert sums.due == sums.rounding == 0
    if drawn == exact and exact > 0 and sums.total > 0:
        assert (sums.due, sums.paid_from_balance) == (sums.total, D(0))


@pytest.mark.parametrize(
    ("currency", "amount", "shown"),
    [
        ("USD", "0.005", "0.00"),
        ("USD", "0.015", "0.02"),
        ("USD", "0.025000000001", "0.03"),
        ("EUR", "1.994999999999", "1.99"),
        ("CNY", "12.345", "12.34"),
        ("JPY", "0.5", "0"),
        ("JPY", "1.5", "2"),
        ("JPY", "2.500000000001", "3"),
        ("USD", "-0.004", "0.00"),
    ],
)
def test_a_line_is_rounded_once_half_to_even(currency: str, amount: str, shown: str) -> None:
    line = usage_line(used(Decimal(amount)), "Default", currency)
    assert line.amount == shown
    assert Decimal(line.exact_amount) == Decimal(amount)


def test_a_quantity_has_all_its_digits_and_no_exponent() -> None:
    line = usage_line(used(Decimal("0.000001")), "Default", "USD")
    assert (line.quantity, line.unit, line.exact_amount) == ("1.048211", "1M tokens", "0.000001")


def test_a_fee_is_a_line_and_one_given_back_has_its_sign_turned() -> None:
    fees = [
        fee(Decimal("49.00")),
        fee(Decimal("-9.50")),
    ]
    lines = [fee_line(each, "USD") for each in fees]
    assert [(line.quantity, line.unit, line.amount) for line in lines] == [
        ("1", "1", "49.00"),
        ("1", "1", "-9.50"),
    ]


def test_what_tiers_still_came_to_is_named_after_the_model() -> None:
    due = Fee(at=MONTH.start, account="revenue:demo", amount=Decimal("0.005"), drawn=Decimal(0))
    line = fee_line(due, "USD")
    assert (line.description, line.exact_amount, line.amount) == ("demo, tiers", "0.005", "0.00")


def test_lines_go_by_project_and_model_and_fees_come_last() -> None:
    both = [used(Decimal(1), "b"), used(Decimal(1), "a")]
    lines = lines_of(both, [fee(Decimal(1))], {PROJECT: "P"}, "USD")
    assert [line.description for line in lines] == ["a, output_tokens", "b, output_tokens", "team plan"]
