"""The world of the simulation: two replicas, a clock, a few customers, and a seed that decides everything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

from farebox.billing.plans import PlanTerms, create_plan
from farebox.billing.prices import add_price
from farebox.billing.terms import Terms
from farebox.billing.tiers import Scheme, Tariff, Tier
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from tests.billing.clock import Clock
from tests.billing.simulation.customers import Customer, Tariffs, one_tariff
from tests.billing.simulation.reference import Contract
from tests.metering.cut_wire import CutWire
from tests.metering.factories import open_account

CUSTOMERS = 4
REPLICAS = 2


@dataclass
class Replica:
    """A process: its meter, and its way to Postgres, which is cut when it dies."""

    meter: Meter
    wire: CutWire


@dataclass
class World:
    """What all deeds act upon."""

    rng: Random
    database: Database
    clock: Clock
    settings: Settings
    database_url: str
    directory: Path
    # Prices hold by Postgres's own clock, as admission does.
    present: Database
    customers: list[Customer] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)
    dead: list[Replica] = field(default_factory=list)
    plans: list[PlanTerms] = field(default_factory=list)
    steps: int = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, seed: int, database_url: str, directory: Path) -> AsyncIterator["World"]:
        clock = Clock()
        clock.now = datetime(2027, 1, 1, tzinfo=UTC)
        database, present = (
            Database(database_url, pool_size=2, clock=clock),
            Database(database_url, pool_size=2),
        )
        settings = Settings(
            default_requests_per_minute=10**9,
            default_tokens_per_minute=10**12,
            default_concurrent_requests=10**6,
            max_requests_per_minute=10**9,
            max_tokens_per_minute=10**12,
            max_concurrent_requests=10**6,
        )
        world = cls(Random(seed), database, clock, settings, database_url, directory, present)
        try:
            await world._populate()
            yield world
        finally:
            for replica in (*world.replicas, *world.dead):
                replica.wire.away = False
                await replica.meter.close()
                await replica.wire.__aexit__()
            await database.close()
            await present.close()

    async def _populate(self) -> None:
        for number in range(CUSTOMERS):
            account = await open_account(self.present, balance="0")
            customer = Customer(f"customer {number}", account)
            self.customers.append(customer)
            await self.set_price(customer)
        for fee, credit, line in ((0, 0, 40), (12, 20, 0), (31, 0, 100)):
            terms = PlanTerms(
                name=f"Plan {new_id().hex[-12:]}",
                currency="USD",
                monthly_fee=Decimal(fee),
                included_credit=Decimal(credit),
                credit_line=Decimal(line),
            )
            async with self.database.meter_transaction() as session:
                await create_plan(session, terms)
            self.plans.append(terms)
        for _ in range(REPLICAS):
            await self.start_replica()

    async def start_replica(self) -> None:
        wire = await CutWire(self.database_url).__aenter__()
        directory = self.directory / f"replica {len(self.replicas) + len(self.dead)}"
        meter = await Meter.open(
            self.settings, wire.url, directory, turn_seconds=None, sweep_grace=timedelta()
        )
        self.replicas.append(Replica(meter, wire))

    async def set_price(self, customer: Customer) -> None:
        """A new contract, from now on."""
        tariffs = self.draw_tariffs()
        async with self.present.meter_transaction() as session:
            await add_price(
                session,
                customer.account.model_id,
                Terms(currency="USD", tariffs=tariffs),
                organization_id=customer.organization_id,
            )
        customer.contracts.append(Contract(tariffs))

    def draw_tariffs(self) -> Tariffs:
        """About a cent to a dollar a token: amounts of all sizes."""

        def rate() -> Decimal:
            return Decimal(self.rng.randrange(10**6)) + Decimal(self.rng.randrange(10**6)).scaleb(-6)

        match self.rng.choice(("flat", "graduated", "allowance", "volume", "package")):
            case "flat":
                return {
                    name: Tariff(scheme="flat", tiers=(Tier(0, rate()),))
                    for name in ("input", "cached_input", "output")
                }
            case "package":
                size = self.rng.randrange(1, 60)
                return one_tariff(Tariff(scheme="package", tiers=(Tier(0, rate()),), package_tokens=size))
            case kind:
                starts = [0, *sorted(self.rng.sample(range(1, 600), self.rng.randrange(1, 4)))]
                rates = [rate() for _ in starts]
                if kind == "allowance":
                    rates[0] = Decimal(0)
                if kind == "volume":
                    rates.sort(reverse=True)
                scheme: Scheme = "volume" if kind == "volume" else "graduated"
                return one_tariff(Tariff(scheme=scheme, tiers=tuple(map(Tier, starts, rates))))
