"""Tariffs: what so many tokens of one class cost in a month.

`farebox_tier_cost` says the same in Postgres, where requests are settled.

flat       every token at one rate
graduated  each token at the rate of its own tier; a free allowance is a first tier at 0
volume     all tokens of the month at the rate of the last one's tier
package    by the package; one that is begun is paid
"""

from decimal import Decimal
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec

from farebox.billing.errors import InvalidPrice

Scheme = Literal["flat", "graduated", "volume", "package"]
TokenClass = Literal["input", "cached_input", "output"]

MAX_TIERS = 20
MAX_STARTS_AT = 10**15
_MILLION = Decimal("0.000001")


class Tier(NamedTuple):
    """From beyond so many tokens in a month on, what a million of them costs."""

    starts_at: int
    per_million: Decimal


class Tariff(msgspec.Struct, frozen=True, kw_only=True):
    """Tiers from 0 up, in ascending order."""

    scheme: Scheme
    tiers: tuple[Tier, ...]
    package_tokens: int | None = None

    def cost(self, tokens: int) -> Decimal:
        """What the first `tokens` of a month come to, exactly."""
        match self.scheme:
            case "graduated":
                return self._graduated(tokens)
            case "volume":
                return tokens * self._rate_at(tokens) * _MILLION
            case "package":
                size = self.package_tokens or 1
                return -(-tokens // size) * size * self.tiers[0].per_million * _MILLION
        return tokens * self.tiers[0].per_million * _MILLION

    def _graduated(self, tokens: int) -> Decimal:
        ends = [*(tier.starts_at for tier in self.tiers[1:]), tokens]
        parts = (
            max(min(tokens, end) - tier.starts_at, 0) * tier.per_million
            for tier, end in zip(self.tiers, ends, strict=True)
        )
        return sum(parts, Decimal(0)) * _MILLION

    def _rate_at(self, tokens: int) -> Decimal:
        reached = [tier for tier in self.tiers if tier.starts_at < max(tokens, 1)]
        return reached[-1].per_million


def check_tariff(tariff: Tariff) -> None:
    """Raises InvalidPrice."""
    starts = [tier.starts_at for tier in tariff.tiers]
    if not starts or starts[0] != 0 or any(after <= before for before, after in pairwise(starts)):
        raise InvalidPrice("The first tier starts at 0, and each later one beyond the one before.")
    if len(starts) > MAX_TIERS or starts[-1] > MAX_STARTS_AT:
        raise InvalidPrice(
            f"A price has at most {MAX_TIERS} tiers, the last from {MAX_STARTS_AT} tokens at most."
        )
    if len(starts) > 1 and tariff.scheme in ("flat", "package"):
        raise InvalidPrice(f"A {tariff.scheme} price has one rate, and no tiers.")
    rates = [tier.per_million for tier in tariff.tiers]
    if tariff.scheme == "volume" and any(after > before for before, after in pairwise(rates)):
        raise InvalidPrice("A volume price never becomes dearer: what was paid would be owed anew.")
    if (tariff.scheme == "package") != (tariff.package_tokens is not None):
        raise InvalidPrice("A package price, and no other, says how many tokens a package has.")
    if tariff.package_tokens is not None and not 0 < tariff.package_tokens <= MAX_STARTS_AT:
        raise InvalidPrice(f"A package has between 1 and {MAX_STARTS_AT} tokens.")
