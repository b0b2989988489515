"""What happens to money beside requests: some of it twice, some of it cut short by a crash and done again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount, OtherTransfer
from farebox.billing.funds import grant_credit_line, take_back, top_up
from farebox.billing.months import month_of
from farebox.billing.plans import charge_plan, move_to_plan
from farebox.billing.promotions import expire, grant
from farebox.billing.tier_debts import settle_debts
from farebox.limits.balances import lock_balance
from tests.billing.simulation.crashes import Crash, crashing_after
from tests.billing.simulation.customers import Customer
from tests.billing.simulation.reference import Grant
from tests.billing.simulation.world import World

Deed = Callable[[AsyncSession], Awaitable[Any]]


async def do(world: World, deed: Deed) -> Any:
    """In a transaction; now and then a process dies of it first, after some of its statements."""
    if world.rng.random() < 0.3:
        try:
            with crashing_after(world.rng.randrange(8)):
                async with world.database.meter_transaction() as session:
                    await deed(session)
                    raise Crash  # before the commit
        except Crash:
            pass
        except (InvalidAmount, OtherTransfer):
            pass
    async with world.database.meter_transaction() as session:
        return await deed(session)


async def pay_in(world: World, customer: Customer) -> None:
    """Now and then twice at once, and under a reference that was used before."""
    known = world.rng.random() < 0.2 and bool(customer.paid_in)
    reference = world.rng.choice(list(customer.paid_in)) if known else f"receipt {len(customer.paid_in)}"
    amount = customer.paid_in[reference] if known else world.rng.randint(1, 3000)

    def deed(session: AsyncSession, cents: int = amount) -> Awaitable[bool]:
        return top_up(
            session,
            organization_id=customer.organization_id,
            amount=Decimal(cents) / 100,
            currency="USD",
            reference=reference,
        )

    if known and world.rng.random() < 0.5:
        try:
            await do(world, lambda session: deed(session, amount + 1))
        except OtherTransfer:
            return
        raise AssertionError("another amount under the same reference")
    times = world.rng.choice((1, 1, 2))
    added = await asyncio.gather(*(do(world, deed) for _ in range(times)))
    assert sum(added) == (0 if known else 1)
    if not known:
        customer.paid_in[reference] = amount
        customer.purse.pay_in(Decimal(amount) / 100)


async def take_some_back(world: World, customer: Customer) -> None:
    amount = Decimal(world.rng.randint(1, 500)) / 100
    reason = f"correction {world.steps}"

    def deed(session: AsyncSession) -> Awaitable[bool]:
        return take_back(
            session, organization_id=customer.organization_id, amount=amount, currency="USD", reason=reason
        )

    try:
        await do(world, deed)
    except InvalidAmount:
        return
    assert amount <= customer.purse.prepaid
    customer.purse.take_back(amount)


async def give(world: World, customer: Customer) -> None:
    amount = Decimal(world.rng.randint(1, 2000)) / 100
    # Of the dates of expiry no two are the same: which of two grants goes first would be left open.
    days = world.rng.choice((1, 3, 10, None))
    expires_at = None if days is None else world.clock.now + timedelta(days=days, microseconds=world.steps)

    def deed(session: AsyncSession) -> Awaitable[bool]:
        return grant(
            session,
            organization_id=customer.organization_id,
            amount=amount,
            currency="USD",
            reference=f"grant {world.steps}",
            expires_at=expires_at,
        )

    assert await do(world, deed)
    customer.purse.grants.append(Grant(amount, amount, expires_at))


async def lend(world: World, customer: Customer) -> None:
    line = Decimal(world.rng.choice((0, 5, 20, 80)))
    try:
        await do(
            world,
            lambda session: grant_credit_line(session, customer.organization_id, amount=line, currency="USD"),
        )
    except InvalidAmount:
        assert customer.purse.balance < 0 or customer.running


async def wait(world: World, _: Customer) -> None:
    """Time goes by, and the worker looks at everybody. What is reserved for requests under way is left to
    them, so there is none for who has a grant that expires."""
    world.clock.advance(hours=world.rng.choice((1, 20, 24 * 12)))
    for customer in world.customers:
        if not customer.running:
            await do(world, partial(expire, organization_id=customer.organization_id))
            customer.purse.expire(world.clock.now)


async def change_plan(world: World, customer: Customer) -> None:
    plan = world.rng.choice((None, *world.plans))
    world.clock.advance(seconds=1)
    try:
        await do(
            world,
            lambda session: move_to_plan(
                session, customer.organization_id, plan.name if plan else None, world.settings
            ),
        )
    except InvalidAmount:  # the line would be lower than what is drawn or reserved
        assert customer.purse.balance < 0 or customer.running
        return
    customer.plan = plan
    customer.plan_since = world.clock.now


async def charge(world: World, customer: Customer) -> None:
    """The month's fee, and the credit that it includes; what of it is due is worked out by hand."""
    month = month_of(world.clock.now)
    async with world.database.meter_transaction() as session:
        purse = await lock_balance(session, customer.organization_id)
    done = await do(world, lambda session: charge_plan(session, customer.organization_id))
    plan, since = customer.plan, customer.plan_since
    if plan is None or since is None or (plan.name, month) in customer.charged:
        assert not done
        return
    days = (month.end - month.start).days
    left = days if since <= month.start else days - (since - month.start).days
    fee, credit = (
        (amount * left / days).quantize(Decimal("0.01"))
        for amount in (plan.monthly_fee, plan.included_credit)
    )
    if fee and fee > purse.available - purse.promotional:
        assert not done
        return
    assert done == bool(fee or credit)
    customer.charged.add((plan.name, month))
    if fee:
        customer.purse.charge_fee(fee)
    if credit:
        customer.purse.grants.append(Grant(credit, credit, month.end))


async def settle_tiers(world: World, customer: Customer) -> None:
    """As if the month had ended: what is owed is paid out, or drawn if there is money for it."""
    month = month_of(world.clock.now).next
    async with world.database.meter_transaction() as session:
        purse = await lock_balance(session, customer.organization_id)
    settled = await do(world, lambda session: settle_debts(session, customer.organization_id, month))
    expected = 0
    for tiers in customer.tiers.values():
        owed = sum(tiers.owed.values(), Decimal(0))
        if owed < 0:
            customer.purse.repay(-owed)
        elif owed and owed <= purse.available - purse.promotional:
            customer.purse.charge_fee(owed)
        else:
            continue
        expected += 1
        tiers.owed = dict.fromkeys(tiers.owed, Decimal(0))
    assert settled == expected


async def change_price(world: World, customer: Customer) -> None:
    await world.set_price(customer)
