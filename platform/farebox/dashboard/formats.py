"""How pages write money, counts and moments."""

from datetime import datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from babel.numbers import get_currency_symbol
from markupsafe import Markup

from farebox.core.clock import iso
from farebox.core.money import plain, round_down, round_to_minor_unit

_LOCALE = "en_US"  # the pages' language
_BRIEF_DECIMALS = Decimal("0.000001")


def money(amount: Decimal, currency: str) -> str:
    """The amount with all its digits: `$0.000123`, `CHF 5.00`, `¥5`.

    Babel's own `format_currency` would round to the 28 digits of the decimal context.
    """
    whole, point, fraction = plain(amount.copy_abs(), currency).partition(".")
    sign = "-" if amount < 0 else ""
    return f"{sign}{_symbol(currency)}{int(whole):,}{point}{fraction}"


def money_brief(amount: Decimal, currency: str) -> str:
    """The amount for a headline: to the minor unit from one unit up, below that as many as six decimals."""
    if abs(amount) >= 1:
        return money(round_to_minor_unit(amount, currency), currency)
    return money(amount.quantize(_BRIEF_DECIMALS, rounding=ROUND_HALF_EVEN), currency)


def money_left(amount: Decimal, currency: str) -> str:
    """As `money_brief`, of what somebody has left: rounded down, never up."""
    if abs(amount) >= 1:
        return money(round_down(amount, currency), currency)
    return money(amount.quantize(_BRIEF_DECIMALS, rounding=ROUND_FLOOR), currency)


def _symbol(currency: str) -> str:
    symbol = get_currency_symbol(currency, _LOCALE)
    return f"{symbol} " if symbol[-1].isalpha() else symbol


def count(number: int) -> str:
    """`1,234,567`."""
    return f"{number:,}"


def count_brief(number: Decimal | int) -> str:
    """A count for an axis: `1.2M`, `34k`, `12`."""
    for size, suffix in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{_three_digits(Decimal(number) / size)}{suffix}"
    return _three_digits(Decimal(number))


def _three_digits(number: Decimal) -> str:
    """Never with an exponent, which only programmers read: `400`, not `4e+2`."""
    written = f"{Decimal(f'{number:.3g}'):f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def moment(when: datetime, pattern: str = "%d %b %Y, %H:%M:%S") -> Markup:
    """A `<time>` element in UTC."""
    return Markup('<time datetime="{}">{} UTC</time>').format(iso(when), when.strftime(pattern))


def day(when: datetime) -> Markup:
    """A `<time>` element of a date in UTC."""
    return Markup('<time datetime="{}">{}</time>').format(iso(when), when.strftime("%d %b %Y"))


def seconds(duration: float | None) -> str:
    """`84 ms`, `1.32 s`, or a dash where nothing was measured."""
    if duration is None:
        return "–"
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.2f} s"
