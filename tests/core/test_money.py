"""Money: exact until an invoice line rounds it, to what its currency can be paid in."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.money import charge, plain, round_to_minor_unit

# What NUMERIC(30, 12) holds.
AMOUNTS = st.integers(-(10**30) + 1, 10**30 - 1).map(lambda units: Decimal(f"{units}E-12"))


@pytest.mark.parametrize(
    ("currency", "rounded"),
    [("USD", "1234.56"), ("JPY", "1235"), ("KRW", "1235"), ("KWD", "1234.565"), ("XXQ", "1234.56")],
)
def test_an_amount_is_rounded_to_its_currency_s_minor_unit(currency: str, rounded: str) -> None:
    assert str(round_to_minor_unit(Decimal("1234.565"), currency)) == rounded


@pytest.mark.parametrize(
    ("amount", "currency", "rounded"),
    [
        ("0.125", "USD", "0.12"),
        ("0.135", "USD", "0.14"),
        ("-0.125", "USD", "-0.12"),
        ("2.5", "JPY", "2"),
        ("3.5", "JPY", "4"),
        ("0.0005", "KWD", "0.000"),
        ("0.0015", "KWD", "0.002"),
    ],
)
def test_a_half_goes_to_the_even_neighbour(amount: str, currency: str, rounded: str) -> None:
    assert str(round_to_minor_unit(Decimal(amount), currency)) == rounded


@given(st.decimals(-(10**12), 10**12, places=12), st.sampled_from(["USD", "JPY", "KWD"]))
def test_rounding_is_idempotent_and_off_by_half_a_unit_at_most(amount: Decimal, currency: str) -> None:
    rounded = round_to_minor_unit(amount, currency)
    assert round_to_minor_unit(rounded, currency) == rounded
    half = {"USD": Decimal("0.005"), "JPY": Decimal("0.5"), "KWD": Decimal("0.0005")}[currency]
    assert abs(rounded - amount) <= half


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("5", "USD", "5.00"),
        ("5", None, "5.00"),
        ("5", "JPY", "5"),
        ("1E+3", "JPY", "1000"),
        ("5", "KWD", "5.000"),
        ("0.000123000", "USD", "0.000123"),
        ("0.25", "JPY", "0.25"),
        ("-2.50", "KWD", "-2.500"),
    ],
)
def test_an_amount_is_written_with_its_currency_s_decimals(
    amount: str, currency: str | None, text: str
) -> None:
    assert plain(Decimal(amount), currency) == text


@given(AMOUNTS, st.sampled_from([None, "USD", "JPY", "KWD"]))
def test_no_digit_is_lost_in_writing(amount: Decimal, currency: str | None) -> None:
    text = plain(amount, currency)
    assert Decimal(text) == amount
    assert "E" not in text


@given(st.integers(0, 10**9), st.decimals(0, 10_000, places=6))
def test_a_charge_is_exact(tokens: int, price: Decimal) -> None:
    assert charge(tokens, price) * 1_000_000 == tokens * price
