"""Money is `Decimal` in one ISO 4217 currency, never a float.

Amounts are exact until an invoice line rounds them: a price has at most six decimals per million
tokens, so a charge has at most twelve, which is what NUMERIC(30, 12) holds. How many decimals are in
use of a currency (its minor unit: none of the yen, three of the Kuwaiti dinar) is looked up in Unicode's
CLDR, by Babel; a code that it does not know has two.
"""

from decimal import ROUND_HALF_EVEN, Decimal

from babel.numbers import get_currency_precision

PRICE_UNIT_TOKENS = 1_000_000


def charge(tokens: int, price_per_million: Decimal) -> Decimal:
    """What `tokens` cost at a price per million tokens, exactly."""
    return (tokens * price_per_million).scaleb(-6)


def round_to_minor_unit(amount: Decimal, currency: str) -> Decimal:
    """The one rounding, done on an invoice line: half to even, to what the currency can be paid in."""
    unit = Decimal(1).scaleb(-get_currency_precision(currency))
    return amount.quantize(unit, rounding=ROUND_HALF_EVEN)


def plain(amount: Decimal, currency: str | None = None) -> str:
    """All digits, without exponent or superfluous zeros: `0.000123`, `5.00`, of yen `5`.

    At least the decimals of the currency's minor unit; two where no currency is named.
    """
    decimals = 2 if currency is None else get_currency_precision(currency)
    whole, _, fraction = format(amount, "f").partition(".")
    fraction = fraction.rstrip("0").ljust(decimals, "0")
    return f"{whole}.{fraction}" if fraction else whole
