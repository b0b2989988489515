"""Closed hours are sealed once, complete, in their order, without a gap."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import Database
from farebox.core.merkle import EMPTY, MerkleTree, climb, leaf_hash
from farebox.metering.models import SealHorizon, UsageOrganizationSeal, UsageSeal
from farebox.metering.seals.chain import GENESIS, OrganizationRoot, organization_leaf, seal_of
from farebox.metering.seals.roots import organization_roots
from farebox.metering.seals.sealing import GRACE, seal_hours
from tests.billing.clock import Clock
from tests.metering.seals.sealed_books import NOON, Customer, root_of

HOUR = timedelta(hours=1)
MakeCustomer = Callable[[], Customer]


async def seals(database: Database) -> Sequence[UsageSeal]:
    async with database.meter_transaction() as session:
        return list(await session.scalars(select(UsageSeal).order_by(UsageSeal.hour)))


async def parts(database: Database, hour: datetime) -> Sequence[UsageOrganizationSeal]:
    async with database.meter_transaction() as session:
        query = select(UsageOrganizationSeal).where(UsageOrganizationSeal.hour == hour)
        return list(await session.scalars(query.order_by(UsageOrganizationSeal.organization_id)))


async def write(session: AsyncSession) -> None:
    """Have the transaction get its id."""
    await session.scalar(text("SELECT pg_current_xact_id()::text"))


async def assert_chained(database: Database) -> None:
    """Each hour follows the one before, and each seal is what it should be; each part leads to its hour."""
    previous, following = GENESIS, None
    for seal in await seals(database):
        assert following in (None, seal.hour)
        assert seal.previous == previous
        assert seal.seal == seal_of(previous, seal.hour, seal.root)
        found = await parts(database, seal.hour)
        leaves = []
        for part in found:
            root = OrganizationRoot(part.organization_id, part.entries, part.root)
            leaves.append(leaf_hash(organization_leaf(seal.hour, root)))
            assert climb(leaves[-1], part.path) == seal.root
            assert (part.entries, part.root) == await root_of(database, part.organization_id, seal.hour)
        assert MerkleTree(leaves).root == seal.root
        assert seal.entries == sum(part.entries for part in found)
        previous, following = seal.seal, seal.hour + HOUR


async def test_hours_are_sealed_from_the_first_entry_on_with_those_between(
    database: Database, customer: MakeCustomer
) -> None:
    ada, bob = customer(), customer()
    await ada.use(NOON - 5 * HOUR, number=5)
    request_id = await bob.use(NOON - 5 * HOUR + timedelta(minutes=59), number=3)
    await bob.amend(request_id, NOON - 2 * HOUR)
    await ada.use(NOON - 2 * HOUR, number=2)
    assert await seal_hours(database) == 4, "the hour before noon is not long enough ago"
    found = await seals(database)
    assert [seal.hour for seal in found] == [NOON - n * HOUR for n in (5, 4, 3, 2)]
    assert [seal.entries for seal in found] == [8, 0, 0, 3]
    assert found[1].root == EMPTY
    await assert_chained(database)


async def test_an_hour_is_sealed_once_however_many_try(
    database: Database, clock: Clock, customer: MakeCustomer
) -> None:
    await customer().use(NOON - HOUR, number=3)
    clock.now = NOON + GRACE
    sealed = await asyncio.gather(*(seal_hours(database) for _ in range(4)))
    assert await seal_hours(database) == 0
    assert sum(sealed) == 1
    await assert_chained(database)


async def test_an_hour_waits_for_transactions_that_may_still_write_in_it(
    database: Database, clock: Clock, customer: MakeCustomer
) -> None:
    """One that has read the clock has an id; one that got its id later may take as long as it likes."""
    ada, slow = customer(), AsyncExitStack()
    await ada.use(NOON - HOUR)
    await write(await slow.enter_async_context(database.meter_transaction()))
    clock.now = NOON + GRACE
    assert await seal_hours(database) == 0
    async with database.meter_transaction() as later:
        await write(later)
        assert await seal_hours(database) == 0
        await ada.use(NOON - HOUR / 2)
        await slow.aclose()
        assert await seal_hours(database) == 1
    (seal,) = await seals(database)
    assert (seal.hour, seal.entries) == (NOON - HOUR, 2)
    await assert_chained(database)


async def test_after_days_of_downtime_all_hours_are_sealed(
    database: Database, clock: Clock, customer: MakeCustomer
) -> None:
    ada = customer()
    await ada.use(NOON - HOUR)
    clock.now = NOON + GRACE
    assert await seal_hours(database) == 1
    await ada.use(NOON + timedelta(days=2))
    clock.advance(days=3)
    assert await seal_hours(database) == 72
    await assert_chained(database)
    async with database.meter_transaction() as session:
        assert await session.scalar(select(func.count()).select_from(SealHorizon)) == 0


async def test_books_that_are_empty_begin_with_the_hour_before(database: Database, clock: Clock) -> None:
    clock.now = NOON + GRACE
    assert await seal_hours(database) == 1
    assert [seal.hour for seal in await seals(database)] == [NOON - HOUR]


async def test_a_horizon_of_the_postgres_before_a_restore_holds_nothing_up(
    database: Database, clock: Clock, customer: MakeCustomer
) -> None:
    await customer().use(NOON - HOUR)
    clock.now = NOON + GRACE
    async with database.meter_transaction() as session:
        session.add(SealHorizon(until=NOON, transaction_id=2**60))
    assert await seal_hours(database) == 1


async def test_a_long_hour_is_read_in_pieces(
    database: Database, clock: Clock, customer: MakeCustomer
) -> None:
    ada, bob = customer(), customer()
    for each in (ada, bob):
        await each.use(NOON - HOUR, number=25)
    async with database.long_reading() as connection:
        few, many = [
            [each async for each in organization_roots(connection, NOON - HOUR, fetched_at_once=number)]
            for number in (7, 10_000)
        ]
        (own,) = [each async for each in organization_roots(connection, NOON - HOUR, bob.organization_id)]
    assert few == many
    assert own in many
    assert [each.entries for each in many] == [25, 25]


async def test_what_is_sealed_cannot_be_changed_by_the_server(
    database: Database, clock: Clock, customer: MakeCustomer
) -> None:
    await customer().use(NOON - HOUR)
    clock.now = NOON + GRACE
    await seal_hours(database)
    for table in ("usage_seal", "usage_organization_seal"):
        for change in (f"UPDATE {table} SET entries = 0", f"DELETE FROM {table}"):  # noqa: S608
            with pytest.raises(DBAPIError, match="permission denied"):
                async with database.meter_transaction() as session:
                    await session.execute(text(change))
