"""What is no answer of Postgres, and answers that say no more than that others are in the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from farebox.core.database import Database, is_away, is_contended
from farebox.core.errors import Unavailable
from farebox.core.settings import Settings
from farebox.metering.admission import Grant
from farebox.metering.meter import Meter
from tests.metering.cut_wire import CutWire
from tests.metering.factories import Account, assert_books_close, open_account, used


@asynccontextmanager
async def locked(database_url: str, account: Account) -> AsyncIterator[None]:
    """Somebody holds the organization's scope and does not let go."""
    blocker = await asyncpg.connect(database_url)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM meter_scope WHERE id = $1 FOR UPDATE", account.organization_id)
        yield
    await blocker.close()


async def test_one_tenants_lock_refuses_that_tenant_alone(
    database: Database, database_url: str, meter: Meter
) -> None:
    account, blocked = await open_account(database), await open_account(database)
    async with locked(database_url, blocked):
        batch = [each.admission() for each in (account, blocked, account, account, blocked, account)]
        outcomes = await asyncio.gather(*(meter.admit(each) for each in batch), return_exceptions=True)
    for admission, outcome in zip(batch, outcomes, strict=True):
        if admission.key_id == account.key_id:
            assert isinstance(outcome, Grant)
            await meter.settle(outcome, used(10, 5))
        else:
            assert isinstance(outcome, Unavailable)
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 4
    assert (await assert_books_close(database, blocked, funded=Decimal(100))).holds == []
    await meter.settle(await meter.admit(blocked.admission()), used(10, 5))


async def test_one_tenants_lock_spools_that_tenants_settlement_alone(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account, blocked = await open_account(database), await open_account(database)
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None)
    tenants = (account, blocked, account, account)
    grants = [await meter.admit(each.admission()) for each in tenants]
    async with locked(database_url, blocked):
        settled = await asyncio.gather(*(meter.settle(grant, used(10, 5)) for grant in grants))
        assert [each.spooled for each in settled] == [each is blocked for each in tenants]
        assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 3
        await meter.turn()
        assert meter.spooled_settlements == 1
    await meter.turn()
    assert meter.spooled_settlements == 0
    assert len((await assert_books_close(database, blocked, funded=Decimal(100))).events) == 1
    await meter.close()


async def test_a_hold_that_somebody_keeps_keeps_no_other_from_its_lease(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None)
    account = await open_account(database)
    kept, other = [await meter.admit(account.admission()) for _ in range(2)]
    blocker = await asyncpg.connect(database_url)
    for grant in (kept, other):
        grant.record_delivery(10, 0, 3)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM hold WHERE request_id = $1 FOR UPDATE", kept.request_id)
        await meter.turn()
    await blocker.close()
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert {hold.request_id: hold.output_tokens for hold in books.holds} == {
        kept.request_id: 0,
        other.request_id: 3,
    }
    assert not kept.lease_lost
    for grant in (kept, other):
        await meter.settle(grant, used(10, 5))
    await meter.close()


async def test_between_farewell_and_end_of_a_connection_postgres_is_away(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account = await open_account(database)
    async with CutWire(database_url) as wire:
        meter = await Meter.open(settings, wire.url, tmp_path, turn_seconds=None)
        streams = [await meter.admit(account.admission()) for _ in range(2)]
        await meter.settle(streams[0], used(10, 5))
        await meter.turn()
        wire.say_farewell()
        with pytest.raises(Unavailable):
            await meter.admit(account.admission())
        assert (await meter.settle(streams[1], used(10, 5))).spooled
        with pytest.raises(Unavailable):
            await meter.turn()
        await meter.settle(await meter.admit(account.admission()), used(10, 5))
        await meter.turn()
        assert meter.spooled_settlements == 0
        assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 3
        await meter.close()


async def work_until_the_farewell(database: Database, wire: CutWire) -> None:
    async with database.transaction() as session:
        wire.say_farewell()
        while True:
            await session.execute(text("SELECT 1"))


async def test_a_pool_drops_a_connection_that_was_told_farewell(database_url: str) -> None:
    async with CutWire(database_url) as wire:
        database = Database(wire.url, pool_size=1)
        async with database.transaction() as session:
            first = await session.scalar(text("SELECT pg_backend_pid()"))
        with pytest.raises(Unavailable):
            await work_until_the_farewell(database, wire)
        async with database.transaction() as session:
            assert await session.scalar(text("SELECT pg_backend_pid()")) != first
        await database.close()


@pytest.mark.parametrize(
    ("error", "away", "contended"),
    [
        (asyncpg.InternalClientError("got result for unknown protocol state 3"), True, False),
        (asyncpg.AdminShutdownError("terminating"), True, False),
        (asyncpg.ReadOnlySQLTransactionError("a standby"), True, False),
        (asyncpg.ConnectionDoesNotExistError("closed in the middle"), True, False),
        (asyncpg.LockNotAvailableError("lock timeout"), False, True),
        (asyncpg.DeadlockDetectedError("deadlock"), False, True),
        (asyncpg.SerializationError("could not serialize"), False, True),
        (asyncpg.QueryCanceledError("cancelled"), False, True),
        (asyncpg.UniqueViolationError("twice"), False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_answers_of_postgres_are_told_from_its_absence(
    error: Exception, *, away: bool, contended: bool
) -> None:
    assert (is_away(error), is_contended(error)) == (away, contended)
