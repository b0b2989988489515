"""Tiers: against a reference that counts token by token, in Python, in Postgres and through the meter."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from farebox.billing.errors import InvalidPrice
from farebox.billing.months import month_of
from farebox.billing.prices import add_price
from farebox.billing.terms import Terms
from farebox.billing.tier_rebates import settle_tiers_of
from farebox.billing.tiers import Scheme, Tariff, Tier, TokenClass, check_tariff
from farebox.core.database import Database, present
from farebox.core.money import charge
from farebox.core.settings import Settings
from farebox.metering.errors import QuotaExceeded
from farebox.metering.meter import Meter
from tests.billing.test_purses import accounts_of, balance_of, give
from tests.metering.factories import Account, assert_books_close, open_account, used
from tests.metering.outages import expire_handover, expire_leases

MILLION = Decimal(1_000_000)


def tariff(scheme: Scheme, *tiers: tuple[int, str], package: int | None = None) -> Tariff:
    made = tuple(Tier(starts_at, Decimal(rate)) for starts_at, rate in tiers)
    return Tariff(scheme=scheme, tiers=made, package_tokens=package)


def terms(each: Tariff) -> Terms:
    """The same tariff for every class."""
    names: tuple[TokenClass, ...] = ("input", "cached_input", "output")
    return Terms(currency="USD", tariffs=dict.fromkeys(names, each))


def slow_cost(each: Tariff, tokens: int) -> Decimal:
    """As anybody would count who has a month and a pencil."""
    if each.scheme == "package":
        packages, opened = 0, 0
        for _ in range(tokens):
            if not opened:
                packages, opened = packages + 1, each.package_tokens or 0
            opened -= 1
        return packages * (each.package_tokens or 0) * each.tiers[0].per_million / MILLION
    total, rate = Decimal(0), Decimal(0)
    for number in range(1, tokens + 1):
        rate = next(tier.per_million for tier in reversed(each.tiers) if number > tier.starts_at)
        total += rate
    return (rate * tokens if each.scheme == "volume" else total) / MILLION


@st.composite
def tariffs(draw: st.DrawFn) -> Tariff:
    scheme: Scheme = draw(st.sampled_from(["flat", "graduated", "volume", "package"]))
    rate = st.decimals(0, 10, places=6)
    if scheme in ("flat", "package"):
        size = draw(st.integers(1, 40)) if scheme == "package" else None
        return Tariff(scheme=scheme, tiers=(Tier(0, draw(rate)),), package_tokens=size)
    starts = [0, *sorted(draw(st.sets(st.integers(1, 120), max_size=4)))]
    rates = [draw(rate) for _ in starts]
    if scheme == "volume":
        rates.sort(reverse=True)
    return Tariff(scheme=scheme, tiers=tuple(map(Tier, starts, rates)))


@given(tariffs(), st.integers(0, 200))
def test_a_months_cost_is_that_of_counting_each_token(each: Tariff, tokens: int) -> None:
    check_tariff(each)
    assert each.cost(tokens) == slow_cost(each, tokens)


@pytest.mark.parametrize("seed", range(20))
async def test_postgres_charges_the_difference(database: Database, seed: int) -> None:
    random = Random(seed)
    account = await open_account(database, balance="0")
    scheme: Any = random.choice(["graduated", "volume", "package"])
    starts = [0] if scheme == "package" else [0, *sorted(random.sample(range(1, 100), 3))]
    rates = sorted((Decimal(random.randrange(10**6)) / 10**5 for _ in starts), reverse=True)
    package = random.randrange(1, 30) if scheme == "package" else None
    each = Tariff(scheme=scheme, tiers=tuple(map(Tier, starts, rates)), package_tokens=package)
    async with database.meter_transaction() as session:
        price_id = await add_price(
            session, account.model_id, terms(each), organization_id=account.organization_id
        )
        for _ in range(20):
            before, tokens = random.randrange(150), random.randrange(150)
            charged = await session.scalar(
                text("SELECT farebox_tier_cost(:price, 'output', :scheme, :package, :before, :tokens)"),
                {"price": price_id, "scheme": scheme, "package": package, "before": before, "tokens": tokens},
            )
            reached = [tier for tier in each.tiers if tier.starts_at < max(before + tokens, 1)][-1]
            assert charged == (
                charge(tokens, reached.per_million)
                if scheme == "volume"
                else each.cost(before + tokens) - each.cost(before)
            )


async def settle(database: Database, account: Account) -> int:
    """As when the month has ended."""
    async with database.meter_transaction() as session:
        month = month_of(await present(session)).next
        return await settle_tiers_of(session, account.organization_id, month)


async def sell(database: Database, account: Account, each: Tariff) -> None:
    async with database.meter_transaction() as session:
        await add_price(session, account.model_id, terms(each), organization_id=account.organization_id)


GRADUATED = tariff("graduated", (0, "1000000"), (100, "400000"), (250, "200000"))
ALLOWANCE = tariff("graduated", (0, "0"), (120, "1000000"))
VOLUME = tariff("volume", (0, "1000000"), (100, "750000"), (300, "250000"))
PACKAGE = tariff("package", (0, "1000000"), package=50)


@pytest.mark.parametrize("each", [GRADUATED, ALLOWANCE, VOLUME, PACKAGE], ids=lambda each: each.tiers[0])
async def test_a_month_of_requests_comes_to_its_tariff(
    database: Database, meter: Meter, each: Tariff
) -> None:
    """In batches, some cancelled; the sum of all events is the tariff's cost of the month."""
    random = Random(7)
    account = await open_account(database, balance="5000")
    await sell(database, account, each)
    counts = {"input": 0, "cached_input": 0, "output": 0}
    for _ in range(12):
        grants = [await meter.admit(account.admission(prompt=20, output=30)) for _ in range(4)]
        settling = []
        for grant in grants:
            fresh, cached, written = random.randrange(10), random.randrange(10), random.randrange(30)
            grant.record_delivery(fresh, cached, written)
            status = random.choice(["completed", "cancelled"])
            settling.append(meter.settle(grant, used(fresh, written, cached=cached, status=status)))
            for name, count in zip(counts, (fresh, cached, written), strict=True):
                counts[name] += count
        await asyncio.gather(*settling)
    books = await assert_books_close(database, account, funded=Decimal(5000))
    billed = sum(event.amount for event in books.events)
    cost = sum(each.cost(count) for count in counts.values())
    assert billed == cost or (billed > cost and each.scheme == "volume")
    assert await settle(database, account) == (billed > cost)
    assert await balance_of(database, account) == 5000 - cost
    assert await settle(database, account) == 0


async def test_a_free_allowance_needs_no_balance_and_ends_where_it_ends(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database, balance="0")
    await sell(database, account, ALLOWANCE)
    for _ in range(2):
        grant = await meter.admit(account.admission(prompt=0, output=60))
        await meter.settle(grant, used(0, 60))
    with pytest.raises(QuotaExceeded):
        await meter.admit(account.admission(prompt=0, output=1))
    assert await balance_of(database, account) == 0


async def test_requests_at_once_do_not_share_one_allowance(database: Database, meter: Meter) -> None:
    """Each is reserved as if all before it used all they may: the balance cannot be overshot."""
    account = await open_account(database, balance="0")
    await sell(database, account, ALLOWANCE)
    tries = [meter.admit(account.admission(prompt=0, output=50)) for _ in range(4)]
    verdicts = await asyncio.gather(*tries, return_exceptions=True)
    assert [isinstance(each, QuotaExceeded) for each in verdicts] == [False, False, True, True]


@pytest.mark.parametrize("each", [GRADUATED, VOLUME, PACKAGE, ALLOWANCE], ids=lambda each: each.tiers[0])
async def test_no_balance_is_overshot_on_two_replicas(
    database: Database, database_url: str, settings: Settings, tmp_path: Path, each: Tariff
) -> None:
    account = await open_account(database, balance="400")
    await sell(database, account, each)
    meters = [await Meter.open(settings, database_url, tmp_path / name, turn_seconds=None) for name in "ab"]

    async def ask(meter: Meter, output: int) -> None:
        try:
            grant = await meter.admit(account.admission(prompt=3, output=output))
        except QuotaExceeded:
            return
        await meter.settle(grant, used(1, output, cached=2))

    for _ in range(8):
        await asyncio.gather(*(ask(meter, output) for meter in meters for output in (5, 20, 40)))
        assert await balance_of(database, account) >= 0
    for meter in meters:
        await meter.close()
    await assert_books_close(database, account, funded=Decimal(400))


async def test_what_a_sweep_left_is_amended_up_to_the_tariff(
    database: Database, database_url: str, settings: Settings, meter: Meter, tmp_path: Path
) -> None:
    account = await open_account(database, balance="1000")
    each = tariff("graduated", (0, "1000000"), (10, "500000"))
    await sell(database, account, each)
    owner = await Meter.open(settings, database_url, tmp_path / "owner", turn_seconds=None)
    grant = await owner.admit(account.admission(prompt=0, output=30))
    grant.record_delivery(0, 0, 8)
    await owner.turn()
    await expire_leases(database, account.organization_id)
    await meter.sweep()
    await owner.settle(grant, used(0, 25))
    await owner.close()
    books = await assert_books_close(database, account, funded=Decimal(1000))
    assert [event.amount for event in books.events] == [each.cost(8)]
    assert [amendment.amount for amendment in books.amendments] == [each.cost(25) - each.cost(8)]


async def test_a_credited_answer_gives_back_what_it_cost(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="1000")
    await sell(database, account, GRADUATED)
    grant = await meter.admit(account.admission(prompt=90, output=30))
    await meter.settle(grant, used(80, 30, cached=10, to_be_handed_over=True))
    meter.hand_over(grant, reached=False)
    await meter.turn()
    await expire_handover(database, grant.request_id)
    await meter.turn()
    await assert_books_close(database, account, funded=Decimal(1000))
    assert await balance_of(database, account) == 1000


async def test_a_volume_price_pays_back_when_the_month_has_ended(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="1000")
    await sell(database, account, tariff("volume", (0, "1000000"), (10, "500000")))
    amounts = []
    for output in (8, 4, 8):
        grant = await meter.admit(account.admission(prompt=0, output=output))
        amounts.append((await meter.settle(grant, used(0, output))).amount)
    assert amounts == [8, 2, 4]  # the second reaches the cheaper tier with its last token
    assert await settle(database, account) == 1
    assert await balance_of(database, account) == 1000 - 10


async def test_what_credit_has_paid_comes_back_as_credit(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="3")
    await give(database, account, 10, "welcome")
    await sell(database, account, tariff("volume", (0, "1000000"), (12, "500000")))
    grant = await meter.admit(account.admission(prompt=0, output=12))
    await meter.settle(grant, used(0, 12))
    grant = await meter.admit(account.admission(prompt=0, output=2))
    await meter.settle(grant, used(0, 2))
    # 13 were billed for 7: 10 by credit, 3 by money. The 3 come back first, as money.
    assert await settle(database, account) == 1
    held = await accounts_of(database, account)
    assert (held["prepaid"], held["promotional"], held["cash"]) == (3, 3, -3)


async def test_a_price_that_follows_begins_with_its_first_tier(database: Database, meter: Meter) -> None:
    """What was paid at another price is not made cheaper by it."""
    account = await open_account(database, balance="1000")
    await sell(database, account, tariff("graduated", (0, "100000"), (10**6, "1")))
    grant = await meter.admit(account.admission(prompt=0, output=100))
    await meter.settle(grant, used(0, 100))
    async with database.meter_transaction() as session:
        each = terms(tariff("volume", (0, "1000000"), (100, "50000")))
        await add_price(
            session,
            account.model_id,
            each,
            organization_id=account.organization_id,
            effective_from=await present(session) + timedelta(microseconds=1),
        )
    grant = await meter.admit(account.admission(prompt=0, output=1))
    assert (await meter.settle(grant, used(0, 1))).amount == 1
    assert await settle(database, account) == 0


async def test_the_customers_own_price_applies_then_the_plans_then_everybodys(
    database: Database, meter: Meter, clock: Any
) -> None:
    account, other = await open_account(database, price=("1", "1", "1")), await open_account(database)
    async with database.meter_transaction() as session:
        await add_price(
            session,
            account.model_id,
            terms(tariff("flat", (0, "700000"))),
            organization_id=account.organization_id,
            effective_until=clock() + timedelta(seconds=3600),
        )
    own = await meter.admit(account.admission(prompt=0, output=2))
    assert own.price.output == 700_000
    others = await meter.admit(other.admission(prompt=0, output=2, model=account.model_id))
    assert others.price.output == 1
    for grant in (own, others):
        await meter.settle(grant, used(0, 2))
    await assert_books_close(database, account, funded=Decimal(100))


async def test_a_contract_that_has_ended_leaves_the_price_of_everybody(
    database: Database, clock: Any
) -> None:
    """And not the contract before it, which had no end of its own."""
    account = await open_account(database)
    async with database.meter_transaction() as session:
        begins = [clock() + timedelta(seconds=n) for n in (1, 2)]
        for each, begin, end in zip(("7", "8"), begins, (None, clock() + timedelta(seconds=3)), strict=True):
            await add_price(
                session,
                account.model_id,
                terms(tariff("flat", (0, each))),
                organization_id=account.organization_id,
                effective_from=begin,
                effective_until=end,
            )
        told = []
        for seconds in (0, 1, 2, 3):
            row = await session.execute(
                text("SELECT output_per_million FROM applicable_price(:model, :id, NULL, :at)"),
                {
                    "model": account.model_id,
                    "id": account.organization_id,
                    "at": clock() + timedelta(seconds=seconds),
                },
            )
            told.append(row.scalar_one())
    assert told == [2, 7, 8, 2]


async def test_a_contract_is_seen_by_its_customer_alone(database: Database) -> None:
    account, other = await open_account(database), await open_account(database)
    await sell(database, account, GRADUATED)
    seen = {}
    for reader in (account, other):
        async with database.transaction(organization_id=reader.organization_id) as session:
            contracts = await session.scalars(
                text("SELECT id FROM price WHERE organization_id IS NOT NULL AND model_id = :model"),
                {"model": account.model_id},
            )
            tiers = await session.scalars(
                text("SELECT price_id FROM price_tier JOIN price ON id = price_id WHERE model_id = :model"),
                {"model": account.model_id},
            )
            seen[reader.organization_id] = (len(list(contracts)), len(list(tiers)))
    assert seen == {account.organization_id: (1, 9), other.organization_id: (0, 0)}


@pytest.mark.parametrize(
    "each",
    [
        tariff("graduated"),
        tariff("graduated", (1, "1")),
        tariff("graduated", (0, "1"), (5, "1"), (5, "2")),
        tariff("volume", (0, "1"), (5, "2")),
        tariff("package", (0, "1")),
        tariff("package", (0, "1"), package=0),
        tariff("flat", (0, "1"), package=5),
        tariff("flat", (0, "1"), (5, "2")),
        tariff("graduated", *((start, "1") for start in range(21))),
    ],
)
def test_tariffs_that_contradict_themselves_are_refused(each: Tariff) -> None:
    with pytest.raises(InvalidPrice):
        check_tariff(each)
