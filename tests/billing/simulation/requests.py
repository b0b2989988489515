"""What requests do, and the processes that serve them."""

from decimal import Decimal

from sqlalchemy import text

from farebox.billing.months import month_of
from farebox.metering.errors import QuotaExceeded
from tests.billing.simulation.customers import Customer, Running
from tests.billing.simulation.world import World
from tests.metering.factories import used
from tests.metering.outages import expire_handover

Counts = tuple[int, int, int]


async def start(world: World, customer: Customer) -> None:
    replica = world.rng.choice(world.replicas)
    admission = customer.account.admission(prompt=world.rng.randrange(30), output=world.rng.randrange(40))
    try:
        grant = await replica.meter.admit(admission)
    except QuotaExceeded:
        return
    customer.running.append(Running(grant, replica.meter, customer.contracts[-1]))


async def deliver(world: World, customer: Customer) -> None:
    """More of an answer reaches its client."""
    if not customer.running:
        return
    running = world.rng.choice(customer.running)
    running.delivered = _draw(world, running)
    running.grant.record_delivery(*running.delivered)


async def turn(world: World, _: Customer) -> None:
    """A replica records what it has delivered."""
    replica = world.rng.choice(world.replicas)
    await replica.meter.turn()
    for customer in world.customers:
        for running in customer.running:
            if running.meter is replica.meter:
                running.recorded = running.delivered


async def finish(world: World, customer: Customer) -> None:
    """Settled, sometimes twice."""
    if not customer.running:
        return
    running = customer.running.pop(world.rng.randrange(len(customer.running)))
    if world.rng.random() < 0.7:
        counts: Counts | None = _draw(world, running)
        assert counts is not None
        settlement = used(counts[0], counts[2], cached=counts[1])
    else:
        counts = running.delivered
        settlement = used(0, 0, status="cancelled")
    for _ in range(world.rng.choice((1, 1, 2))):
        await running.meter.settle(running.grant, settlement)
    bill(customer, running, counts)


async def answer_nobody(world: World, customer: Customer) -> None:
    """A whole answer whose client has left: billed, and given back."""
    replica = world.rng.choice(world.replicas)
    try:
        grant = await replica.meter.admit(customer.account.admission(prompt=20, output=20))
    except QuotaExceeded:
        return
    running = Running(grant, replica.meter, customer.contracts[-1])
    counts = _draw(world, running)
    await replica.meter.settle(grant, used(counts[0], counts[2], cached=counts[1], to_be_handed_over=True))
    replica.meter.hand_over(grant, reached=False)
    await expire_handover(world.present, grant.request_id)
    await world.rng.choice(world.replicas).meter.sweep()
    # What is left of it is a month of which nothing was used.
    _ = running.contract.months[month_of(grant.admitted_at)]


async def die(world: World, _: Customer) -> None:
    """A replica is gone; another settles what it left, at its last checkpoint."""
    replica = world.replicas.pop(world.rng.randrange(len(world.replicas)))
    replica.wire.away = True
    replica.wire.cut()
    world.dead.append(replica)
    await world.start_replica()
    for customer in world.customers:
        for running in [each for each in customer.running if each.meter is replica.meter]:
            customer.running.remove(running)
            async with world.present.meter_transaction() as session:
                await session.execute(
                    text("UPDATE hold SET lease_expires_at = now() - interval '1 s' WHERE request_id = :id"),
                    {"id": running.grant.request_id},
                )
            # One by one: at a volume price the order tells.
            await world.rng.choice(world.replicas).meter.sweep()
            bill(customer, running, running.recorded)


def bill(customer: Customer, running: Running, counts: Counts | None) -> None:
    """In the reference; None for a request that delivered nothing, and is voided."""
    if counts is not None:
        customer.purse.spend(_take(running, counts))


def _take(running: Running, counts: Counts) -> Decimal:
    tiers = running.contract.months[month_of(running.grant.admitted_at)]
    return tiers.take(running.contract.tariffs, counts, running.grant.reserved)


def _draw(world: World, running: Running) -> Counts:
    """No less than was delivered before, no more than was admitted."""
    before = running.delivered or (0, 0, 0)
    prompt = running.grant.prompt_tokens - sum(before[:2])
    fresh = world.rng.randint(0, prompt)
    cached = world.rng.randint(0, prompt - fresh)
    written = world.rng.randint(before[2], running.grant.max_output_tokens)
    return before[0] + fresh, before[1] + cached, written
