"""Money is `Decimal` in one ISO 4217 currency, never a float.

Amounts are exact until an invoice line rounds them: a price has at most six decimals per million
tokens, so a charge has at most twelve, which is what NUMERIC(30, 12) holds. How many decimals are in
use of a currency (its minor unit: none of the yen, three of the Kuwaiti dinar) is looked up in Unicode's
CLDR, by Babel; a code that it does not know has two.
"""

import re
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from babel.numbers import get_currency_precision, list_currencies

PRICE_UNIT_TOKENS = 1_000_000

_PLAIN = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")


def read_plain(typed: str) -> Decimal:
    """An amount as people write it: `25`, `25.00`. Raises ValueError for all else, `1e3` and `1_000` too:
    whoever mistypes an amount is told so, and is not taken at another one."""
    if not _PLAIN.fullmatch(typed):
        raise ValueError(f"{typed!r} is not a plain decimal number")
    return Decimal(typed)


def charge(tokens: int, price_per_million: Decimal) -> Decimal:
    """What `tokens` cost at a price per million tokens, exactly."""
    return (tokens * price_per_million).scaleb(-6)


def round_to_minor_unit(amount: Decimal, currency: str) -> Decimal:
    """The one rounding, done on an invoice line: half to even, to what the currency can be paid in."""
    unit = Decimal(1).scaleb(-get_currency_precision(currency))
    return amount.quantize(unit, rounding=ROUND_HALF_EVEN)


def is_currency(code: str) -> bool:
    """Whether CLDR knows the code: three capital letters of ISO 4217."""
    return code in list_currencies()


def is_payable(amount: Decimal, currency: str) -> bool:
    """Whether it is a whole number of what the currency can be paid in."""
    return amount == amount.quantize(Decimal(1).scaleb(-get_currency_precision(currency)))


def round_down(amount: Decimal, currency: str) -> Decimal:
    """What somebody has, in units that the currency can be paid in: never more than there is."""
    return amount.quantize(Decimal(1).scaleb(-get_currency_precision(currency)), rounding=ROUND_FLOOR)


def plain(amount: Decimal, currency: str | None = None) -> str:
    """All digits, without exponent or superfluous zeros: `0.000123`, `5.00`, of yen `5`.

    At least the decimals of the currency's minor unit; two where no currency is named.
    """
    decimals = 2 if currency is None else get_currency_precision(currency)
    whole, _, fraction = format(amount, "f").partition(".")
    fraction = fraction.rstrip("0").ljust(decimals, "0")
    return f"{whole}.{fraction}" if fraction else whole
