"""The books of one customer, kept by an obvious bookkeeper: no batches, no locks, no sums by hour."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

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
    """A month's place in the tiers, and what a volume price owes."""

    used: dict[TokenClass, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    owed: dict[TokenClass, Decimal] = field(default_factory=lambda: dict.fromkeys(CLASSES, NOTHING))

    def take(
        self, tariffs: dict[TokenClass, Tariff], counts: tuple[int, int, int], reserved: Decimal
    ) -> Decimal:
        """What so many tokens of each class cost on top of the month so far; no more than was reserved."""
        total = NOTHING
        for name, count in zip(CLASSES, counts, strict=True):
            before, tariff = self.used[name], tariffs[name]
            if tariff.scheme == "flat":
                total += charge(count, tariff.tiers[0].per_million)
                continue
            self.used[name] = before + count
            due = tariff.cost(before + count) - tariff.cost(before) + self.owed[name]
            paid = min(max(due, NOTHING), reserved - total)
            self.owed[name] = due - paid
            total += paid
        return total


@dataclass
class Purse:
    """Promotional credit by grant, paid money, and what is drawn on the line."""

    prepaid: Decimal = NOTHING
    receivable: Decimal = NOTHING
    grants: list[Grant] = field(default_factory=list)
    revenue: Decimal = NOTHING
    fees: Decimal = NOTHING
    repaid: Decimal = NOTHING

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

    def repay(self, amount: Decimal) -> None:
        self.repaid += amount
        self.pay_in(amount)

    def take_back(self, amount: Decimal) -> None:
        self.prepaid -= amount

    def spend(self, amount: Decimal) -> None:
        """Promotional credit first, the soonest to expire first; then paid money; then the line."""
        self.revenue += amount
        for each in sorted(self.grants, key=lambda grant: grant.expires_at or NEVER):
            part = min(each.left, amount)
            each.left -= part
            amount -= part
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
