"""The life of the world, step by step."""

from collections import Counter
from collections.abc import Awaitable, Callable

from tests.billing.simulation import money, requests
from tests.billing.simulation.checks import check_books
from tests.billing.simulation.customers import Customer
from tests.billing.simulation.world import World

Deed = Callable[[World, Customer], Awaitable[None]]

WEIGHTS: dict[Deed, int] = {
    requests.start: 30,
    requests.deliver: 15,
    requests.finish: 30,
    requests.turn: 5,
    requests.answer_nobody: 2,
    requests.die: 1,
    money.pay_in: 8,
    money.take_some_back: 2,
    money.give: 3,
    money.lend: 2,
    money.wait: 2,
    money.change_plan: 2,
    money.charge: 3,
    money.settle_tiers: 2,
    money.change_price: 1,
}


# What touches one customer's books. The others' are those of the step before.
ALONE = set(WEIGHTS) - {requests.turn, requests.die, money.wait}


async def live(world: World, steps: int) -> Counter[str]:
    """So many steps, with the books compared after each; what was done, how often.

    Raises AssertionError, with the number of the step and its deed.
    """
    done: Counter[str] = Counter()
    deeds, weights = list(WEIGHTS), list(WEIGHTS.values())
    for _ in range(steps):
        world.steps += 1
        (deed,) = world.rng.choices(deeds, weights)
        customer = world.rng.choice(world.customers)
        try:
            await deed(world, customer)
            touched = [customer] if deed in ALONE else world.customers
            async with world.present.meter_transaction() as session:
                await check_books(session, touched)
        except AssertionError as error:
            raise AssertionError(
                f"step {world.steps}, {deed.__name__} of {customer.name}: {error}"
            ) from error
        done[deed.__name__] += 1
    return done
