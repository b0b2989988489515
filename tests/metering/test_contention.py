"""What is no answer of Postgres, and answers that say no more than that others are in the way."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from farebox.core.clock import utc_now
from farebox.core.database import Database, is_away, is_contended
from farebox.core.errors import Unavailable
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.keys.errors import InvalidApiKey
from farebox.metering.admission import ADMIT, Grant, admit_arguments
from farebox.metering.connection import MeterConnection
from farebox.metering.meter import Meter
from farebox.metering.patience import LockPatience
from tests.metering.cut_wire import CutWire
from tests.metering.factories import Account, assert_books_close, open_account, used
from tests.metering.outages import full_disk


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


async def test_whoever_waits_for_a_lock_is_admitted_when_it_is_gone(
    database: Database, database_url: str, meter: Meter
) -> None:
    account, blocked = await open_account(database), await open_account(database)
    async with locked(database_url, blocked):
        waiting = [asyncio.create_task(meter.admit(blocked.admission())) for _ in range(3)]
        # In one batch with them: they are known to be contended when it is admitted.
        await meter.settle(await meter.admit(account.admission()), used(10, 5))
    for grant in await asyncio.gather(*waiting):
        await meter.settle(grant, used(10, 5))
    assert len((await assert_books_close(database, blocked, funded=Decimal(100))).events) == 3


async def test_whoever_leaves_while_waiting_for_a_lock_leaves_no_hold(
    database: Database, database_url: str, meter: Meter
) -> None:
    account, blocked = await open_account(database), await open_account(database)
    async with locked(database_url, blocked):
        waiting = asyncio.create_task(meter.admit(blocked.admission()))
        await meter.settle(await meter.admit(account.admission()), used(10, 5))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await meter.drain()
    assert meter.live_requests == 0
    assert (await assert_books_close(database, blocked, funded=Decimal(100))).holds == []


async def test_a_key_that_opens_nothing_waits_for_no_lock(
    database: Database, database_url: str, meter: Meter
) -> None:
    account = await open_account(database)
    async with database.transaction(organization_id=account.organization_id) as session:
        await session.execute(
            text("UPDATE api_key SET revoked_at = :now WHERE id = :id"),
            {"now": utc_now(), "id": account.key_id},
        )
    async with locked(database_url, account):
        with pytest.raises(InvalidApiKey):
            await meter.admit(account.admission())


class RecordedConnection(MeterConnection):
    """Remembers of each statement whether it was to pass over what is locked."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.skipped: list[object] = []

    async def fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        self.skipped.append(arguments[-1])
        return await super().fetch(statement, *arguments)


async def test_a_lock_that_somebody_keeps_is_waited_for_once(database: Database, database_url: str) -> None:
    account, blocked = await open_account(database), await open_account(database)
    connection = RecordedConnection(database_url)
    clock = [0.0]
    patience = LockPatience(clock=lambda: clock[-1])

    async def ask(*accounts: Account) -> tuple[list[object], list[object]]:
        """Which were passed over, and how each statement was asked."""
        connection.skipped.clear()
        grants = [each.admission() for each in accounts]
        arguments = partial(admit_arguments, new_id(), Settings())
        rows = await patience.fetch(connection, ADMIT, grants, arguments)
        return [row is None for row in rows], list(connection.skipped)

    async with locked(database_url, blocked):
        assert await ask(account, blocked) == ([False, True], [False, True])
        assert await ask(account) == ([False], [False])
        assert await ask(blocked, account, blocked) == ([True, False, True], [False, True])
        assert await ask(blocked) == ([True], [True])
    assert await ask(blocked, account) == ([False, False], [False, True])
    assert await ask(blocked, account) == ([False, False], [False])
    async with locked(database_url, blocked):
        assert await ask(blocked) == ([True], [False, True])
    clock.append(601.0)
    assert await ask(blocked) == ([False], [False])
    await connection.close()


async def test_a_key_that_somebody_keeps_holds_up_no_settlement(
    database: Database, database_url: str, meter: Meter
) -> None:
    """As a page that revokes it, and hangs. When it was last used is not worth a wait."""
    account = await open_account(database)
    grant = await meter.admit(account.admission())
    blocker = await asyncpg.connect(database_url)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM api_key WHERE id = $1 FOR NO KEY UPDATE", account.key_id)
        assert not (await meter.settle(grant, used(10, 5))).spooled
    await blocker.close()


async def test_what_waits_for_a_lock_is_saved_when_the_disk_has_room_again(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account, blocked = await open_account(database), await open_account(database)
    meter = await Meter.open(settings, database_url, tmp_path, turn_seconds=None)
    grant = await meter.admit(blocked.admission())
    (spool,) = (tmp_path / "spool").glob("*.jsonl")
    async with locked(database_url, blocked):
        with full_disk(spool):
            assert (await meter.settle(grant, used(10, 5))).spooled
            with pytest.raises(Unavailable, match="neither"):
                await meter.admit(account.admission())
        await meter.turn()
        await meter.settle(await meter.admit(account.admission()), used(10, 5))
    await meter.turn()
    assert len((await assert_books_close(database, blocked, funded=Decimal(100))).events) == 1
    await meter.close()


async def test_what_a_dead_process_spooled_for_a_locked_account_waits_at_its_heirs(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    blocked = await open_account(database)
    dead = await Meter.open(settings, database_url, tmp_path / "dead", turn_seconds=None)
    grant = await dead.admit(blocked.admission())
    async with locked(database_url, blocked):
        assert (await dead.settle(grant, used(10, 5))).spooled
        left = shutil.copytree(tmp_path / "dead" / "spool", tmp_path / "heir" / "spool")
        (path,) = left.iterdir()
        heir = await Meter.open(settings, database_url, tmp_path / "heir", turn_seconds=None)
        assert not path.exists()
        assert heir.spooled_settlements == 1
    await heir.turn()
    assert list(left.glob("*.jsonl"))[0].stat().st_size == 0
    for meter in (heir, dead):
        await meter.close()
    assert len((await assert_books_close(database, blocked, funded=Decimal(100))).events) == 1


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
