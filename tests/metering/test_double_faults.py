"""Postgres is away, and then the process dies or its disk is full."""

import asyncio
import shutil
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from farebox.metering.spool import Spool
from tests.metering.factories import assert_books_close, open_account, used
from tests.metering.mortal import Mortal
from tests.metering.outages import Outage, expire_leases, full_disk
from tests.waiting import until


async def test_what_was_delivered_since_postgres_left_outlives_the_process(
    database: Database, mortal: Mortal
) -> None:
    account = await open_account(database)
    grant, silent = [await mortal.meter.admit(account.admission()) for _ in range(2)]
    grant.record_delivery(6, 4, 3)
    await mortal.meter.turn()
    for delivered in (9, 12):
        grant.record_delivery(6, 4, delivered)
        await mortal.lose_postgres()
    assert list((await mortal.be_buried()).iterdir()) == []
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert (event.request_id, event.status, event.output_tokens) == (grant.request_id, "interrupted", 12)
    await mortal.be_buried("twice")
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert (len(books.events), books.amendments) == (1, [])
    assert [hold.request_id for hold in books.holds] == [silent.request_id]


async def test_what_was_delivered_amends_a_sweep(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, mortal: Mortal
) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    grant.record_delivery(6, 4, 3)
    await mortal.meter.turn()
    grant.record_delivery(6, 4, 12)
    await mortal.lose_postgres()
    await expire_leases(database, account.organization_id)
    sweeper = await Meter.open(
        settings, database_url, tmp_path / "sweeper", turn_seconds=None, sweep_grace=timedelta()
    )
    await sweeper.turn()
    await sweeper.close()
    await mortal.be_buried()
    await mortal.be_buried("twice")
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert [event.output_tokens for event in books.events] == [3]
    assert [(each.status, each.output_tokens) for each in books.amendments] == [("interrupted", 9)]


async def test_a_settlement_goes_before_what_was_noted(database: Database, mortal: Mortal) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    grant.record_delivery(6, 4, 12)
    await mortal.lose_postgres()
    assert (await mortal.meter.settle(grant, used(6, 15, cached=4))).spooled
    await mortal.be_buried()
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert (event.status, event.output_tokens) == ("completed", 15)


async def test_a_note_older_than_the_hold_takes_nothing_back(database: Database, mortal: Mortal) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    grant.record_delivery(6, 4, 5)
    await mortal.lose_postgres()
    left = shutil.copytree(mortal.directory / "spool", mortal.directory.parent / "copy")
    mortal.wire.away = False
    grant.record_delivery(6, 4, 9)
    await mortal.meter.turn()
    assert mortal.files == set()
    # As if the process had died between the checkpoint in Postgres and the removal of the note.
    shutil.copytree(left, mortal.directory / "spool", dirs_exist_ok=True)
    await mortal.be_buried()
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert event.output_tokens == 9


async def test_what_was_delivered_is_noted_while_postgres_hangs(database: Database, mortal: Mortal) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    grant.record_delivery(6, 4, 3)
    await mortal.meter.turn()
    mortal.wire.listening.clear()
    grant.record_delivery(6, 4, 9)
    turning = asyncio.create_task(mortal.meter.turn())
    await until(lambda: ".delivered" in mortal.files)
    assert not turning.done()
    with pytest.raises(Unavailable):
        await turning
    await mortal.be_buried()
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert event.output_tokens == 9
    mortal.wire.listening.set()


async def test_with_postgres_away_and_the_disk_full_settlements_wait_and_nothing_new_is_admitted(
    outage: Outage, settings: Settings, tmp_path: Path
) -> None:
    """More than a batch: those behind must be kept as well."""
    database, owner = Database(outage.server.url), new_id()
    (tmp_path / f"{owner.hex}.jsonl").symlink_to("/dev/full")
    meter = Meter(settings, outage.server.url, Spool(tmp_path, owner), owner)
    account = await open_account(database)
    grants = await asyncio.gather(*(meter.admit(account.admission()) for _ in range(300)))
    await database.close()
    await asyncio.to_thread(outage.stop)
    settled = await asyncio.gather(*(meter.settle(grant, used(10, 5)) for grant in grants))
    assert {each.amount for each in settled} == {Decimal("0.00002")}
    assert meter.spooled_settlements == meter.live_requests == 300
    await asyncio.to_thread(outage.start)
    with pytest.raises(Unavailable, match="neither"):
        await meter.admit(account.admission())
    await meter.turn()
    assert meter.spooled_settlements == meter.live_requests == 0
    await meter.settle(await meter.admit(account.admission()), used(10, 5))
    await meter.close()
    database = Database(outage.server.url)
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 301
    await database.close()
    await asyncio.to_thread(outage.stop)


async def test_a_disk_that_has_room_again_takes_what_waited(database: Database, mortal: Mortal) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    (spool,) = (mortal.directory / "spool").glob("*.jsonl")
    with full_disk(spool):
        mortal.wire.away = True
        mortal.wire.cut()
        await mortal.meter.settle(grant, used(6, 15, cached=4))
    assert mortal.files == set()
    with pytest.raises(Unavailable):
        await mortal.meter.turn()
    await mortal.be_buried()
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert event.output_tokens == 15


async def test_a_note_that_cannot_be_removed_stops_no_turn(database: Database, mortal: Mortal) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    grant.record_delivery(6, 4, 5)
    await mortal.lose_postgres()
    (note,) = (mortal.directory / "spool").glob("*.delivered")
    note.unlink()
    note.mkdir()  # which no file can be in place of
    mortal.wire.away = False
    assert (await mortal.meter.settle(grant, used(6, 7, cached=4))).spooled is False
    await mortal.meter.turn()
    note.rmdir()
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert event.output_tokens == 7
