"""What happens to money beside requests: some of it twice, some of it cut short by a crash and done again."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import InvalidAmount, OtherTransfer
from farebox.billing.funds import grant_credit_line, take_back, top_up
from farebox.billing.months import Month, month_of
from farebox.billing.plans import PlanTerms, charge_plan, move_to_plan
from farebox.billing.promotions import expire, grant
from farebox.billing.tier_rebates import settle_tiers_of
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
        assert customer.purse.receivable or customer.running


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
        assert customer.purse.receivable or customer.running
        return
    if plan != customer.plan:
        customer.plan, customer.plan_since = plan, world.clock.now


async def charge(world: World, customer: Customer) -> None:
    """The fees that are due and the credit that this month includes, worked out by hand."""
    current = month_of(world.clock.now)
    done = await do(world, lambda session: charge_plan(session, customer.organization_id))
    plan, since = customer.plan, customer.plan_since
    expected, month = False, month_of(since) if since else current.next
    while plan is not None and since is not None and month <= current:
        if (plan.name, month) not in customer.charged:
            if not await _charge_month(world, customer, plan, since, month):
                break
            expected = expected or bool(plan.monthly_fee or plan.included_credit)
        month = month.next
    assert done == expected


async def _charge_month(
    world: World, customer: Customer, plan: PlanTerms, since: datetime, month: Month
) -> bool:
    days = (month.end - month.start).days
    left = days if since <= month.start else days - (since - month.start).days
    fee, credit = (
        (amount * left / days).quantize(Decimal("0.01"))
        for amount in (plan.monthly_fee, plan.included_credit)
    )
    async with world.database.meter_transaction() as session:
        purse = await lock_balance(session, customer.organization_id)
    # The reference's own money: the books may have drawn this month's fee by now.
    money = customer.purse.prepaid - customer.purse.receivable
    if fee > money + purse.credit_line - max(purse.reserved - customer.purse.promotional, Decimal(0)) and fee:
        return False
    customer.charged.add((plan.name, month))
    if fee:
        customer.purse.charge_fee(fee)
    if credit and month.end > world.clock.now:
        customer.purse.grants.append(Grant(credit, credit, month.end))
    return True


async def settle_tiers(world: World, customer: Customer) -> None:
    """As if the month had ended: what was billed beyond the tariff is paid back."""
    after = month_of(world.clock.now).next
    paid = await do(world, lambda session: settle_tiers_of(session, customer.organization_id, after))
    expected = 0
    for contract in customer.contracts:
        for month, tiers in contract.months.items():
            beyond = tiers.beyond(contract.tariffs)
            if beyond > 0 and not tiers.settled:
                customer.purse.repay(beyond, month.next.next.end)
                expected += 1
            tiers.settled = True
    assert paid == expected, (paid, expected)


async def change_price(world: World, customer: Customer) -> None:
    await world.set_price(customer)
