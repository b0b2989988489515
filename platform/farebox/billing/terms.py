"""What a price says."""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from farebox.billing.errors import InvalidAmount, InvalidPrice
from farebox.billing.tiers import Scheme, Tariff, Tier, TokenClass, check_tariff
from farebox.core.money import is_currency, plain, read_plain

MAX_PRICE_PER_MILLION = Decimal("1000000")


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a price says: a tariff for each class of tokens, and a rate for a million items."""

    currency: str
    tariffs: Mapping[TokenClass, Tariff]
    item_per_million: Decimal = Decimal(0)

    @property
    def scheme(self) -> Scheme:
        return self.tariffs["input"].scheme

    def dearest(self, token_class: TokenClass) -> Decimal:
        return max(tier.per_million for tier in self.tariffs[token_class].tiers)

    def check(self) -> None:
        """Raises InvalidPrice."""
        if not is_currency(self.currency):
            raise InvalidPrice(f"`{self.currency}` is no currency of ISO 4217.")
        if self.tariffs.keys() != {"input", "cached_input", "output"}:
            raise InvalidPrice("A price names input, cached input and output.")
        if len({(tariff.scheme, tariff.package_tokens) for tariff in self.tariffs.values()}) > 1:
            raise InvalidPrice("All classes of a price follow one scheme, in packages of one size.")
        for tariff in self.tariffs.values():
            check_tariff(tariff)
        for rate in (self.item_per_million, *map(self.dearest, self.tariffs)):
            check_rate(rate)


def flat(
    *,
    input_per_million: Decimal,
    cached_input_per_million: Decimal,
    output_per_million: Decimal,
    currency: str,
    item_per_million: Decimal = Decimal(0),
) -> Terms:
    """One rate for each class, however much is used."""
    rates: dict[TokenClass, Decimal] = {
        "input": input_per_million,
        "cached_input": cached_input_per_million,
        "output": output_per_million,
    }
    tariffs = {each: Tariff(scheme="flat", tiers=(Tier(0, rate),)) for each, rate in rates.items()}
    return Terms(currency=currency, tariffs=tariffs, item_per_million=item_per_million)


def parse_price(value: str) -> Decimal:
    """A price per million tokens: 0 to 1,000,000 with at most six decimals. Raises InvalidAmount."""
    try:
        price = read_plain(value)
    except ValueError:
        raise InvalidAmount(f"`{value}` is not a price; write it like 0.50.") from None
    check_rate(price)
    return price


def check_rate(rate: Decimal) -> None:
    """Raises InvalidAmount."""
    if not rate.is_finite() or not 0 <= rate <= MAX_PRICE_PER_MILLION:
        raise InvalidAmount(f"A price lies between 0 and {MAX_PRICE_PER_MILLION} per million tokens.")
    if rate != rate.quantize(Decimal("0.000001")):
        raise InvalidAmount("A price per million tokens has at most six decimals.")


def describe_tiers(terms: Terms) -> str:
    """Of a price with tiers, where each begins and what it costs; of another one nothing."""
    parts = [
        f"{name.replace('_', ' ')} from {tier.starts_at:,}: {plain(tier.per_million, terms.currency)}"
        for name, tariff in terms.tariffs.items()
        for tier in tariff.tiers
        if len(tariff.tiers) > 1
    ]
    return "; ".join(parts)
