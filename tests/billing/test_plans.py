"""Plans: prices and limits of those who have one, fees and included credit once a month."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import delete, select

from farebox.billing.errors import InvalidAmount, InvalidPrice, UnknownPlan
from farebox.billing.models import Plan, PlanMembership
from farebox.billing.months import Month, month_of, read_month
from farebox.billing.plans import (
    PlanTerms,
    charge_plan,
    create_plan,
    find_plan,
    move_to_plan,
    retire_plan,
    share_of,
)
from farebox.billing.prices import add_price
from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.metering.errors import QuotaExceeded, RateLimitExceeded
from farebox.metering.meter import Meter
from farebox.tenants.models import Organization
from tests.billing.clock import Clock
from tests.billing.test_purses import accounts_of, balance_of, give, pay_in
from tests.billing.test_tiers import tariff, terms
from tests.metering.factories import Account, open_account, read_books, used


async def offer(database: Database, **of: object) -> str:
    """A plan; its name."""
    name = f"Plan {new_id().hex[-8:]}"
    async with database.meter_transaction() as session:
        await create_plan(session, PlanTerms(name=name, currency="USD", **of))  # type: ignore[arg-type]
    return name


async def move(database: Database, account: Account, name: str | None, settings: Settings) -> None:
    async with database.meter_transaction() as session:
        await move_to_plan(session, account.organization_id, name, settings)


async def charge(database: Database, account: Account) -> bool:
    async with database.meter_transaction() as session:
        return await charge_plan(session, account.organization_id)


async def test_a_plan_brings_its_prices_limits_and_credit_line(
    database: Database, meter: Meter, settings: Settings, clock: Clock
) -> None:
    account = await open_account(database, balance="0", price=("1", "1", "1"))
    name = await offer(database, credit_line=Decimal(50), requests_per_minute=2)
    async with database.meter_transaction() as session:
        plan = await find_plan(session, name)
        await add_price(session, account.model_id, terms(tariff("flat", (0, "1000000"))), plan_id=plan.id)
    await move(database, account, name, settings)
    grants = [await meter.admit(account.admission(prompt=0, output=20)) for _ in range(2)]
    assert {grant.price.output for grant in grants} == {1_000_000}
    with pytest.raises(RateLimitExceeded):
        await meter.admit(account.admission(prompt=0, output=1))
    await asyncio.gather(*(meter.settle(grant, used(0, 20)) for grant in grants))
    assert await balance_of(database, account) == -40
    with pytest.raises(InvalidAmount, match="drawn"):
        await move(database, account, None, settings)
    await pay_in(database, account, 40, "transfer")
    clock.advance(seconds=1)
    await move(database, account, None, settings)
    with pytest.raises(QuotaExceeded):
        await meter.admit(account.admission(prompt=0, output=1))


async def test_a_months_fee_is_drawn_once_and_its_credit_ends_with_the_month(
    database: Database, settings: Settings, clock: Clock
) -> None:
    clock.now = datetime(2027, 4, 1, tzinfo=UTC)
    account = await open_account(database, balance="100")
    name = await offer(database, monthly_fee=Decimal(30), included_credit=Decimal(40))
    await move(database, account, name, settings)
    assert [await charge(database, account) for _ in range(2)] == [True, False]
    assert await accounts_of(database, account) == {
        "cash": -100, "prepaid": 70, "promotion": -40, "promotional": 40, f"revenue:{name} plan": 30,
    }  # fmt: skip
    clock.now = datetime(2027, 5, 1, tzinfo=UTC)
    assert await charge(database, account)
    held = await accounts_of(database, account)
    assert (held["prepaid"], held["promotional"]) == (40, 80)  # April's ends when the worker looks


async def test_who_comes_in_mid_month_pays_for_what_is_left_of_it(
    database: Database, settings: Settings, clock: Clock
) -> None:
    clock.now = datetime(2027, 4, 21, 13, tzinfo=UTC)  # ten days of thirty
    account = await open_account(database, balance="100")
    await move(database, account, await offer(database, monthly_fee=Decimal(30)), settings)
    await charge(database, account)
    assert (await accounts_of(database, account))["prepaid"] == 90


async def test_a_fee_that_nothing_can_pay_is_not_drawn_and_gives_nothing(
    database: Database, settings: Settings
) -> None:
    account = await open_account(database, balance="5")
    name = await offer(database, monthly_fee=Decimal(900), included_credit=Decimal(1000))
    await move(database, account, name, settings)
    assert not await charge(database, account)
    assert await accounts_of(database, account) == {"cash": -5, "prepaid": 5}
    await pay_in(database, account, 1000, "transfer")
    assert await charge(database, account)
    assert await balance_of(database, account) > 100


async def test_months_that_nothing_could_pay_are_drawn_when_there_is_money(
    database: Database, settings: Settings, clock: Clock
) -> None:
    """The oldest first; credit is given for the month that is."""
    account = await open_account(database, balance="5")
    clock.now = datetime(2027, 4, 1, tzinfo=UTC)
    name = await offer(database, monthly_fee=Decimal(30), included_credit=Decimal(40))
    await move(database, account, name, settings)
    for month in (4, 5, 6):
        clock.now = datetime(2027, month, 20, tzinfo=UTC)
        assert not await charge(database, account)
    await move(database, account, name, settings)  # the same plan again begins nothing anew
    await pay_in(database, account, 80, "transfer")
    assert await charge(database, account)
    held = await accounts_of(database, account)
    assert (held[f"revenue:{name} plan"], held["prepaid"], held.get("promotional", 0)) == (60, 25, 0)
    await pay_in(database, account, 10, "another")
    assert await charge(database, account)
    held = await accounts_of(database, account)
    assert (held[f"revenue:{name} plan"], held["prepaid"], held["promotional"]) == (90, 5, 40)


async def test_a_fee_may_take_what_promotional_credit_will_pay_for(
    database: Database, meter: Meter, settings: Settings, clock: Clock
) -> None:
    account = await open_account(database, balance="10", price=("1000000", "1000000", "1000000"))
    await give(database, account, 50, "welcome")
    await meter.admit(account.admission(prompt=45, output=0))
    clock.now = datetime(2027, 4, 1, tzinfo=UTC)
    await move(database, account, await offer(database, monthly_fee=Decimal(9)), settings)
    assert await charge(database, account)


async def test_who_is_removed_has_no_plan_either(database: Database, settings: Settings) -> None:
    organization_id = new_id()
    async with database.transaction(organization_id=organization_id) as session:
        session.add(Organization(id=organization_id, name="Gone"))
    async with database.meter_transaction() as session:
        await move_to_plan(session, organization_id, await offer(database), settings)
    async with database.meter_transaction() as session:
        await session.execute(delete(Organization).where(Organization.id == organization_id))
    async with database.meter_transaction() as session:
        left = await session.scalar(
            select(PlanMembership.plan_id).where(PlanMembership.organization_id == organization_id)
        )
    assert left is None


async def test_a_fee_takes_nothing_that_is_reserved(
    database: Database, meter: Meter, settings: Settings, clock: Clock
) -> None:
    account = await open_account(database, balance="10", price=("1000000", "1000000", "1000000"))
    clock.now = datetime(2027, 4, 1, tzinfo=UTC)
    grant = await meter.admit(account.admission(prompt=5, output=0))
    await move(database, account, await offer(database, monthly_fee=Decimal(6)), settings)
    assert not await charge(database, account)
    await meter.settle(grant, used(3, 0))
    assert await charge(database, account)
    assert await balance_of(database, account) == 1


async def test_plans_that_are_none_are_refused(database: Database, settings: Settings) -> None:
    account = await open_account(database)
    for odd in ({"currency": "XYZ"}, {"monthly_fee": Decimal(-1)}, {"included_credit": Decimal("0.001")}):
        with pytest.raises((InvalidPrice, InvalidAmount)):
            async with database.meter_transaction() as session:
                await create_plan(session, PlanTerms(**({"name": "Odd", "currency": "USD"} | odd)))
    with pytest.raises(UnknownPlan):
        await move(database, account, "Nobody's", settings)
    name = await offer(database)
    async with database.meter_transaction() as session:
        await retire_plan(session, name)
    with pytest.raises(InvalidPrice, match="retired"):
        await move(database, account, name, settings)
    assert (await read_books(database, account.organization_id)).scopes[
        account.organization_id
    ].plan_id is None


MOMENTS = st.integers(0, 4 * 365 * 86_400).map(
    lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s)
)


@given(st.integers(0, 10**7), MOMENTS)
def test_a_share_is_the_days_that_are_left(cents: int, since: datetime) -> None:
    fee = Decimal(cents) / 100
    plan = Plan(monthly_fee=fee, included_credit=fee, currency="USD")
    month = month_of(since)
    days = [month.start + timedelta(days=n) for n in range(31) if month.start + timedelta(days=n) < month.end]
    left = sum(day + timedelta(days=1) > since for day in days)
    share = share_of(plan, month, since)
    assert share.fee == share.credit
    assert abs(share.fee - fee * left / len(days)) <= Decimal("0.005")
    assert share_of(plan, month.next, since).fee == fee


@pytest.mark.parametrize("text", ["2026-13", "2026", "26-01", "2026-1-1", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="."):
        read_month(text)


def test_months_follow_one_another() -> None:
    december = read_month("2026-12")
    assert (str(december.next), str(december.before)) == ("2027-01", "2026-11")
    assert december.next == Month(2027, 1)
    assert december.end == datetime(2027, 1, 1, tzinfo=UTC)
