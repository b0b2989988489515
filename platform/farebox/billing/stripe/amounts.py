"""Stripe's minor units. They are not CLDR's: Stripe has hundredths of most currencies.

Source: Stripe's documentation, "Supported currencies" (zero-decimal and three-decimal currencies).
"""

from decimal import Decimal

_NONE = frozenset(
    "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF".split()  # noqa: SIM905  as the source has it
)
_THREE = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})


def to_minor(amount: Decimal, currency: str) -> int:
    """Raises ValueError for what is no whole number of them."""
    scaled = amount.scaleb(_decimals(currency))
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{amount} {currency} cannot be paid")
    return int(scaled)


def from_minor(units: int, currency: str) -> Decimal:
    return Decimal(units).scaleb(-_decimals(currency))


def share(units: int, whole: int, of: int) -> int:
    """`units` of a `whole`, as a part `of` another whole; rounded half to even."""
    return round(Decimal(units) * of / whole)


def _decimals(currency: str) -> int:
    if currency in _NONE:
        return 0
    return 3 if currency in _THREE else 2
