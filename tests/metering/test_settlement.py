"""Every token billed exactly once: retries, dead replicas, a database that is away."""

import asyncio
import json
import sys
import weakref
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import msgspec
import pytest
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.metering.admission import Grant
from farebox.metering.meter import Meter
from farebox.metering.settlement import make_posting
from farebox.metering.spool import Spool
from tests.metering.factories import assert_books_close, open_account, read_books, used
from tests.metering.outages import Outage, expire_leases


async def test_the_event_says_what_was_used_and_at_which_price(database: Database, meter: Meter) -> None:
    account = await open_account(database, price=("1.25", "0.125", "7.5"))
    grant = await meter.admit(account.admission(prompt=1000, output=500))
    settled = await meter.settle(grant, used(600, 123, cached=400))
    expected = Decimal("0.0017225")  # 600 x 1.25 + 400 x 0.125 + 123 x 7.5, per million
    assert settled.amount == expected
    books = await assert_books_close(database, account, funded=Decimal(100))
    (event,) = books.events
    assert (event.input_tokens, event.cached_input_tokens, event.output_tokens) == (600, 400, 123)
    assert (event.request_id, event.api_key_id, event.model_id) == (
        grant.request_id,
        account.key_id,
        account.model_id,
    )
    assert (event.amount, event.price_id, event.output_per_million) == (
        expected,
        grant.price.id,
        Decimal("7.5"),
    )


async def test_settling_twice_bills_once(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    grant = await meter.admit(account.admission())
    first, again = await asyncio.gather(meter.settle(grant, used(10, 5)), meter.settle(grant, used(10, 5)))
    assert first.amount == again.amount
    assert (await meter.settle(grant, used(10, 5))).amount == first.amount
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 1


async def test_an_unfinished_request_pays_for_what_was_delivered(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    grant = await meter.admit(account.admission(prompt=10, output=20))
    grant.record_delivery(10, 0, 3)
    await meter.settle(grant, used(10, 17, status="cancelled"))
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert (event.status, event.output_tokens) == ("cancelled", 3)


class Run:
    """Holds its grant, as whoever runs a request does."""

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        grant.stop_when_lost(self.stop)

    def stop(self) -> None:
        self.grant.lease_lost = True


async def test_a_settled_grant_lets_go_of_what_it_would_have_stopped(
    database: Database, meter: Meter
) -> None:
    account = await open_account(database)
    run = Run(await meter.admit(account.admission()))
    await meter.settle(run.grant, used(10, 5))
    found = weakref.ref(run)
    del run
    assert found() is None, "a ring, which waits for the collector"


async def test_nothing_delivered_costs_nothing(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    settled = await meter.settle(await meter.admit(account.admission()), used(10, 9, status="failed"))
    assert settled.amount == 0
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert books.events == []
    assert books.holds == []


async def test_a_bill_never_exceeds_what_was_reserved(database: Database, meter: Meter) -> None:
    account = await open_account(database, balance="0.01", price=("0", "0", "1000"))
    grant = await meter.admit(account.admission(prompt=0, output=10))
    settled = await meter.settle(grant, used(0, 50))
    assert settled.amount == Decimal("0.01")
    await assert_books_close(database, account, funded=Decimal("0.01"))


async def test_a_dead_owners_request_is_settled_at_its_last_checkpoint(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, meter: Meter
) -> None:
    account = await open_account(database)
    dead = await Meter.open(settings, database_url, tmp_path / "dead", turn_seconds=None)
    streamed = await dead.admit(account.admission(prompt=10, output=20))
    await dead.admit(account.admission(prompt=10, output=20))
    streamed.record_delivery(8, 2, 5)
    await dead.turn()
    streamed.record_delivery(8, 2, 9)
    await expire_leases(database, account.organization_id)
    await meter.turn()
    books = await assert_books_close(database, account, funded=Decimal(100))
    (event,) = books.events
    assert event.status == "interrupted"
    assert (event.input_tokens, event.cached_input_tokens, event.output_tokens) == (8, 2, 5)
    assert books.holds == []
    late = await dead.settle(streamed, used(8, 9, cached=2))
    assert late.amount > event.amount
    await assert_books_close(database, account, funded=Decimal(100))
    await dead.close()


async def test_a_live_owners_lease_is_renewed(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    grant = await meter.admit(account.admission())
    await expire_leases(database, account.organization_id)
    await meter.turn()
    books = await read_books(database, account.organization_id)
    assert [hold.request_id for hold in books.holds] == [grant.request_id]
    assert books.holds[0].lease_expires_at - books.holds[0].admitted_at > timedelta(seconds=9)
    await meter.settle(grant, used(1, 1))


async def test_replicas_sweeping_at_once_settle_once(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account = await open_account(database)
    dead, *replicas = [
        await Meter.open(
            settings, database_url, tmp_path / str(n), turn_seconds=None, sweep_grace=timedelta()
        )
        for n in range(4)
    ]
    grants = [await dead.admit(account.admission()) for _ in range(20)]
    for grant in grants:
        grant.record_delivery(10, 0, 1)
    await dead.turn()
    await expire_leases(database, account.organization_id)
    await asyncio.gather(*(replica.turn() for replica in replicas))
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 20
    for replica in (dead, *replicas):
        await replica.close()


async def test_a_replica_that_has_just_connected_sweeps_nothing(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account = await open_account(database)
    meter = await Meter.open(
        settings, database_url, tmp_path, turn_seconds=None, sweep_grace=timedelta(days=1)
    )
    await meter.admit(account.admission())
    await expire_leases(database, account.organization_id)
    other = await Meter.open(
        settings, database_url, tmp_path, turn_seconds=None, sweep_grace=timedelta(days=1)
    )
    await other.turn()
    assert len((await read_books(database, account.organization_id)).holds) == 1
    await meter.close()
    await other.close()


async def test_a_replica_that_serves_nothing_sweeps(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account = await open_account(database)
    dead, idle = [
        await Meter.open(
            settings,
            database_url,
            tmp_path / str(n),
            turn_seconds=None,
            sweep_grace=timedelta(microseconds=1),
        )
        for n in range(2)
    ]
    await dead.admit(account.admission())
    await expire_leases(database, account.organization_id)
    await idle.turn()
    assert (await read_books(database, account.organization_id)).holds == []
    for replica in (dead, idle):
        await replica.close()


async def test_a_month_has_a_partition_or_the_default_takes_it(database: Database, meter: Meter) -> None:
    account = await open_account(database)
    await meter.settle(await meter.admit(account.admission()), used(1, 1))
    async with database.transaction(organization_id=account.organization_id) as session:
        place = await session.scalar(text("SELECT tableoid::regclass::text FROM usage_event"))
    assert place is not None
    assert place.startswith("usage_event_")


async def test_with_postgres_away_work_under_way_is_spooled_and_settled_later(
    outage: Outage, settings: Settings, tmp_path: Path
) -> None:
    """Promise: new work gets 503 within 5 s, work under way is settled from an fsynced spool."""
    database = Database(outage.server.url)
    account = await open_account(database)
    meter = await Meter.open(
        settings, outage.server.url, tmp_path / "data", turn_seconds=None, sweep_grace=timedelta()
    )
    grants = [await meter.admit(account.admission()) for _ in range(5)]
    await database.close()
    await asyncio.to_thread(outage.stop)
    started = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable) as refused:
        await meter.admit(account.admission())
    assert asyncio.get_running_loop().time() - started < 5
    assert refused.value.headers["Retry-After"] == "2"
    settled = await asyncio.gather(*(meter.settle(grant, used(10, 5)) for grant in grants[:3]))
    assert all(s.spooled and s.amount == Decimal("0.00002") for s in settled)
    assert meter.spooled_settlements == 3
    (spool,) = (tmp_path / "data" / "spool").glob("*.jsonl")
    assert len([json.loads(line) for line in spool.read_text().splitlines()]) == 3
    await asyncio.to_thread(outage.start)
    await asyncio.gather(*(meter.settle(grant, used(10, 5)) for grant in grants[3:]))
    await meter.turn()
    assert meter.spooled_settlements == 0
    database = Database(outage.server.url)
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert len(books.events) == 5
    assert books.holds == []
    await meter.settle(await meter.admit(account.admission()), used(10, 5))
    await meter.close()
    assert list((tmp_path / "data" / "spool").iterdir()) == []
    await database.close()
    await asyncio.to_thread(outage.stop)


SPOOL_AND_DIE = """
import os, sys, uuid, msgspec
from pathlib import Path
from farebox.metering.settlement import Posting
from farebox.metering.spool import Spool
spool = Spool(Path(sys.argv[1]), uuid.uuid4())
spool.append([msgspec.json.decode(sys.argv[2], type=Posting)])
os.write(os.open(spool.path, os.O_WRONLY | os.O_APPEND), b'{"request_id": "torn')
os.kill(os.getpid(), 9)
"""


async def test_a_dead_processs_spool_is_adopted_at_the_next_start(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, meter: Meter
) -> None:
    account = await open_account(database)
    posting = make_posting(await meter.admit(account.admission()), used(10, 7))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SPOOL_AND_DIE, str(tmp_path / "spool"), msgspec.json.encode(posting)
    )
    assert await process.wait() == -9
    (left,) = (path for path in (tmp_path / "spool").iterdir() if path.stat().st_size)
    successor = await Meter.open(settings, database_url, tmp_path)
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert event.output_tokens == 7
    assert not left.exists()
    await successor.close()


def test_a_living_owners_spool_is_left_alone(tmp_path: Path) -> None:
    owner, other = Spool(tmp_path, new_id()), Spool(tmp_path, new_id())
    assert other.adopt() == []
    owner.close()
    other.close()


async def test_a_usage_event_cannot_be_changed_by_the_application(database_url: str) -> None:
    for role in ("farebox_app", "farebox_meter"):
        connection = await asyncpg.connect(database_url, server_settings={"role": role})
        for statement in (
            "UPDATE usage_event SET amount = 0",
            "UPDATE usage_amendment SET amount = 0",
            "DELETE FROM usage_amendment",
            "DELETE FROM ledger_transfer",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.close()
