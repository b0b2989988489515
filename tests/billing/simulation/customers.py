"""Customers of the simulation: what they have, and what the reference says of them."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from farebox.billing.months import Month
from farebox.billing.plans import PlanTerms
from farebox.billing.tiers import Tariff, TokenClass
from farebox.metering.admission import Grant
from farebox.metering.meter import Meter
from tests.billing.simulation.reference import CLASSES, Contract, Purse
from tests.metering.factories import Account

Tariffs = dict[TokenClass, Tariff]


@dataclass
class Running:
    """A request under way: which meter holds it, and the price it was admitted under."""

    grant: Grant
    meter: Meter
    contract: Contract
    delivered: tuple[int, int, int] | None = None
    recorded: tuple[int, int, int] | None = None


@dataclass
class Customer:
    """An organization with a key and a model of its own, whose price is its own too."""

    name: str
    account: Account
    contracts: list[Contract] = field(default_factory=list)
    purse: Purse = field(default_factory=Purse)
    running: list[Running] = field(default_factory=list)
    paid_in: dict[str, int] = field(default_factory=dict)
    plan: PlanTerms | None = None
    plan_since: datetime | None = None
    charged: set[tuple[str, Month]] = field(default_factory=set)

    @property
    def organization_id(self) -> UUID:
        return self.account.organization_id


def one_tariff(tariff: Tariff) -> Tariffs:
    """The same for every class."""
    return dict.fromkeys(CLASSES, tariff)
