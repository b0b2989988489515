"""The books of one customer, kept by an obvious bookkeeper: no batches, no locks, no sums by hour."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from farebox.billing.months import Month
from farebox.billing.tiers import Tariff, TokenClass
from farebox.core.money import charge

NOTHING = Decimal(0)
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
CLASSES: tuple[TokenClass, ...] = ("input", "cached_input", "output")


@dataclass
class Grant:
    """Promotional credit that is left; `expires_at` None is never."""

    amount: Decimal
    left: Decimal
    expires_at: datetime | None


@dataclass
class Tiers:
    """A month's place in the tiers of one price, and what it was billed."""

    used: dict[TokenClass, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    billed: Decimal = NOTHING
    settled: bool = False

    def take(
        self, tariffs: dict[TokenClass, Tariff], counts: tuple[int, int, int], reserved: Decimal
    ) -> Decimal:
        """What so many tokens of each class cost on top of the month so far; no more than was reserved."""
        total = NOTHING
        for name, count in zip(CLASSES, counts, strict=True):
            before, tariff = self.used[name], tariffs[name]
            self.used[name] = before + count
            if tariff.scheme == "volume":
                rate = [tier for tier in tariff.tiers if tier.starts_at < max(before + count, 1)][-1]
                due = charge(count, rate.per_million)
            else:
                due = tariff.cost(before + count) - tariff.cost(before)
            total += min(due, reserved - total)
        self.billed += total
        return total

    def beyond(self, tariffs: dict[TokenClass, Tariff]) -> Decimal:
        """What was billed beyond the tariff."""
        if tariffs["input"].scheme == "flat":
            return NOTHING
        return self.billed - sum((tariffs[name].cost(self.used[name]) for name in CLASSES), NOTHING)


@dataclass
class Contract:
    """A price, and the months at it."""

    tariffs: dict[TokenClass, Tariff]
    months: dict[Month, Tiers] = field(default_factory=lambda: defaultdict(Tiers))


@dataclass
class Purse:
    """Promotional credit by grant, paid money, and what is drawn on the line."""

    prepaid: Decimal = NOTHING
    receivable: Decimal = NOTHING
    grants: list[Grant] = field(default_factory=list)
    revenue: Decimal = NOTHING
    fees: Decimal = NOTHING
    repaid: Decimal = NOTHING
    used_money: Decimal = NOTHING

    @property
    def promotional(self) -> Decimal:
        return sum((each.left for each in self.grants), NOTHING)

    @property
    def balance(self) -> Decimal:
        return self.promotional + self.prepaid - self.receivable

    def pay_in(self, amount: Decimal) -> None:
        settled = min(self.receivable, amount)
        self.receivable -= settled
        self.prepaid += amount - settled

    def repay(self, amount: Decimal, expires_at: datetime) -> None:
        """Money as far as money has paid for usage; the rest as credit."""
        money = min(amount, self.used_money)
        self.repaid += amount
        self.pay_in(money)
        if amount > money:
            self.grants.append(Grant(amount - money, amount - money, expires_at))

    def take_back(self, amount: Decimal) -> None:
        self.prepaid -= amount

    def spend(self, amount: Decimal) -> None:
        """Promotional credit first, the soonest to expire first; then paid money; then the line."""
        self.revenue += amount
        for each in sorted(self.grants, key=lambda grant: grant.expires_at or NEVER):
            part = min(each.left, amount)
            each.left -= part
            amount -= part
        self.used_money += amount
        self._pay(amount)

    def charge_fee(self, amount: Decimal) -> None:
        self.fees += amount
        self._pay(amount)

    def expire(self, now: datetime) -> None:
        for each in self.grants:
            if each.expires_at is not None and each.expires_at <= now:
                each.left = NOTHING

    def _pay(self, amount: Decimal) -> None:
        part = min(self.prepaid, amount)
        self.prepaid -= part
        self.receivable += amount - part
