"""Statements whose answer is lost, postings that Postgres will never take, spools of others."""

import asyncio
import math
from decimal import Decimal
from pathlib import Path

import asyncpg
import msgspec
import pytest

from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from farebox.metering.settlement import Posting, make_posting
from farebox.metering.spool import Spool
from tests.metering.cut_wire import CutWire
from tests.metering.factories import Account, assert_books_close, open_account, used


@pytest.mark.parametrize("price", ["2", "0"])
async def test_a_settlement_whose_answer_is_lost_is_billed_once(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, price: str
) -> None:
    account = await open_account(database, price=("0", "0", price))
    async with CutWire(database_url) as wire:
        meter = await Meter.open(settings, wire.url, tmp_path, turn_seconds=None)
        grants = [await meter.admit(account.admission()) for _ in range(2)]
        wire.lose_answers = 1
        settled = await asyncio.gather(*(meter.settle(grant, used(10, 5)) for grant in grants))
        assert wire.lost == 1
        assert [each.spooled for each in settled] == [True, True]
        await meter.turn()
        assert meter.spooled_settlements == 0
        books = await assert_books_close(database, account, funded=Decimal(100))
        assert {event.request_id for event in books.events} == {grant.request_id for grant in grants}
        assert books.holds == []
        await meter.close()


async def close_scopes(database_url: str, account: Account, *, active: int) -> None:
    """Make every settlement of an account one that Postgres refuses, or mend it."""
    owner = await asyncpg.connect(database_url)
    await owner.execute("ALTER TABLE meter_scope DISABLE TRIGGER ALL")
    await owner.execute("UPDATE meter_scope SET active = $1 WHERE id = $2", active, account.organization_id)
    await owner.execute("ALTER TABLE meter_scope ENABLE TRIGGER ALL")
    await owner.close()


async def test_one_spooled_settlement_that_postgres_refuses_keeps_no_other_back(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    account, poisoned = await open_account(database), await open_account(database)
    async with CutWire(database_url) as wire:
        meter = await Meter.open(settings, wire.url, tmp_path, turn_seconds=None)
        grants = [await meter.admit(each.admission()) for each in (account, poisoned, account)]
        wire.away = True
        wire.cut()
        assert all([(await meter.settle(grant, used(10, 5))).spooled for grant in grants])
        wire.away = False
        await close_scopes(database_url, poisoned, active=0)
        await meter.turn()
        assert meter.spooled_settlements == 1
        assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 2
        await meter.close()
    successor = await Meter.open(settings, database_url, tmp_path, turn_seconds=None)
    await close_scopes(database_url, poisoned, active=1)
    await successor.close()
    former = set((tmp_path / "spool").glob("*.jsonl"))
    last = await Meter.open(settings, database_url, tmp_path, turn_seconds=None)
    assert len((await assert_books_close(database, poisoned, funded=Decimal(100))).events) == 1
    (own,) = (tmp_path / "spool").glob("*.jsonl")
    assert own not in former
    await last.close()


@pytest.mark.parametrize("count", [math.nan, 2**31, -1], ids=str)
async def test_a_count_that_is_none_is_refused_alone(database: Database, meter: Meter, count: float) -> None:
    account = await open_account(database)
    grants = [await meter.admit(account.admission()) for _ in range(3)]
    settlements = [used(10, 5), used(10, count), used(10, 5)]  # type: ignore[arg-type]
    outcomes = await asyncio.gather(
        *(meter.settle(*each) for each in zip(grants, settlements, strict=True)), return_exceptions=True
    )
    assert [isinstance(each, Exception) for each in outcomes] == [False, True, False]
    assert meter.spooled_settlements == 0
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 2


def test_a_spool_that_another_has_just_removed_is_passed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path, new_id())
    (tmp_path / f"{new_id().hex}.jsonl").symlink_to(tmp_path / "removed")
    assert spool.adopt() == []
    spool.close()


async def test_a_settlement_whose_caller_is_cancelled_keeps_its_lease_until_it_is_through(
    database: Database, database_url: str, meter: Meter
) -> None:
    account = await open_account(database)
    grant = await meter.admit(account.admission())
    blocker = await asyncpg.connect(database_url)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM meter_scope WHERE id = $1 FOR UPDATE", account.key_id)
        settling = asyncio.create_task(meter.settle(grant, used(10, 8)))
        await asyncio.sleep(0)
        settling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await settling
        assert meter.live_requests == 1
    await blocker.close()
    await meter.settle(grant, used(10, 8))
    assert meter.live_requests == 0
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert event.output_tokens == 8


def times_open(path: Path) -> int:
    return sum(link.resolve() == path for link in Path("/proc/self/fd").iterdir())


async def test_a_new_spool_that_a_neighbour_takes_for_a_left_one_is_made_again(
    database: Database, meter: Meter, tmp_path: Path
) -> None:
    posting = make_posting(await meter.admit((await open_account(database)).admission()), used(10, 5))
    owner = new_id()
    path = tmp_path / f"{owner.hex}.jsonl"
    path.touch()
    neighbour = Spool(tmp_path, new_id())
    (taken,) = neighbour.adopt()
    opening = asyncio.create_task(asyncio.to_thread(Spool, tmp_path, owner))
    while times_open(path) < 2:  # noqa: ASYNC110  another thread's descriptor
        await asyncio.sleep(0.001)
    taken.path.unlink()
    taken.close()
    spool = await opening
    spool.append([posting])
    assert msgspec.json.decode(path.read_bytes(), type=Posting) == posting
    assert neighbour.adopt() == []
    neighbour.close()
    spool.close()
