"""Money is `Decimal` in one ISO 4217 currency, never a float.

Amounts are exact until an invoice line rounds them: a price has at most six decimals per million
tokens, so a charge has at most twelve, which is what NUMERIC(30, 12) holds.
"""

from decimal import ROUND_HALF_EVEN, Decimal

PRICE_UNIT_TOKENS = 1_000_000


def charge(tokens: int, price_per_million: Decimal) -> Decimal:
    """What `tokens` cost at a price per million tokens, exactly."""
    return (tokens * price_per_million).scaleb(-6)


def round_to_cent(amount: Decimal) -> Decimal:
    """The one rounding, done on an invoice line: half to even, two decimals."""
    return amount.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)


def plain(amount: Decimal) -> str:
    """The amount without exponent or superfluous zeros, at least two decimals: `0.000123`, `5.00`."""
    text = format(amount.normalize(), "f")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(2, '0')}"
