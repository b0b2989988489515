"""Bills whose hold is gone: taken by a crash, voided by a sweep, waiting in a spool."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import msgspec
import pytest
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.ids import new_id
from farebox.core.settings import Settings
from farebox.limits.service import LimitChange
from farebox.metering.errors import QuotaExceeded
from farebox.metering.meter import Meter
from farebox.metering.settlement import make_posting
from tests.metering.factories import Account, assert_books_close, limit, open_account, read_books, used
from tests.metering.outages import Outage, expire_leases


async def test_a_request_whose_hold_a_crash_took_is_billed_all_the_same(
    outage: Outage, settings: Settings, tmp_path: Path
) -> None:
    database = Database(outage.server.url)
    account = await open_account(database)
    meter = await Meter.open(settings, outage.server.url, tmp_path / "data", turn_seconds=None)
    grants = [await meter.admit(account.admission()) for _ in range(3)]
    await database.close()
    await asyncio.to_thread(outage.kill)
    await asyncio.to_thread(outage.start)
    for grant in grants:
        assert (await meter.settle(grant, used(10, 5))).amount == Decimal("0.00002")
    await meter.close()
    database = Database(outage.server.url)
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert {event.request_id for event in books.events} == {grant.request_id for grant in grants}
    assert books.holds == []
    await database.close()
    await asyncio.to_thread(outage.stop)


async def void_behind_its_back(database: Database, account: Account, meter: Meter) -> None:
    """What another replica's sweep does to a whole answer whose owner cannot reach Postgres."""
    await expire_leases(database, account.organization_id)
    await meter.sweep()  # without renewing first
    assert (await read_books(database, account.organization_id)).holds == []


async def test_an_answer_whose_hold_was_voided_is_billed_once(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, meter: Meter
) -> None:
    account = await open_account(database)
    cut_off = await Meter.open(settings, database_url, tmp_path / "cut-off", turn_seconds=None)
    grant = await cut_off.admit(account.admission())
    await void_behind_its_back(database, account, meter)
    settlements = [cut_off.settle(grant, used(4, 5, cached=6)) for _ in range(3)]
    assert {settled.amount for settled in await asyncio.gather(*settlements)} == {Decimal("0.000017")}
    (event,) = (await assert_books_close(database, account, funded=Decimal(100))).events
    assert (event.request_id, event.project_id, event.api_key_id, event.model_id) == (
        grant.request_id,
        account.project_id,
        account.key_id,
        account.model_id,
    )
    assert (event.input_tokens, event.cached_input_tokens, event.output_tokens) == (4, 6, 5)
    assert (event.price_id, event.admitted_at) == (grant.price.id, grant.admitted_at)
    await cut_off.close()


async def test_a_late_bill_takes_no_more_than_balance_and_caps_have_left(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, meter: Meter
) -> None:
    for left, change in ((Decimal("0.3"), None), (Decimal("0.2"), LimitChange(monthly_cap=Decimal("0.90")))):
        account = await open_account(database, balance="1", price=("0", "0", "100000"))
        if change is not None:
            await limit(database, account, account.project_id, change)
        cut_off = await Meter.open(settings, database_url, tmp_path / str(left), turn_seconds=None)
        grant = await cut_off.admit(account.admission(prompt=0, output=8))
        await void_behind_its_back(database, account, meter)
        other = await meter.admit(account.admission(prompt=0, output=7))
        assert (await cut_off.settle(grant, used(0, 8))).amount == left
        assert (await meter.settle(other, used(0, 7))).amount == Decimal("0.7")
        books = await assert_books_close(database, account, funded=Decimal(1))
        assert sorted(event.amount for event in books.events) == [left, Decimal("0.7")]
        await cut_off.close()


async def test_two_processes_that_adopt_the_same_spool_bill_once(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, meter: Meter
) -> None:
    account = await open_account(database)
    dead = await Meter.open(settings, database_url, tmp_path / "dead", turn_seconds=None)
    posting = make_posting(await dead.admit(account.admission()), used(10, 7))
    await void_behind_its_back(database, account, meter)
    line = msgspec.json.encode(posting) + b"\n"
    for name in ("one", "two"):
        (tmp_path / name / "spool").mkdir(parents=True)
        (tmp_path / name / "spool" / f"{new_id().hex}.jsonl").write_bytes(line)
    successors = await asyncio.gather(
        *(Meter.open(settings, database_url, tmp_path / name) for name in ("one", "two"))
    )
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 1
    for meter in (dead, *successors):
        await meter.close()


async def test_a_spool_line_that_cannot_be_read_keeps_neither_the_start_nor_the_others_back(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, meter: Meter
) -> None:
    account = await open_account(database)
    posting = make_posting(await meter.admit(account.admission()), used(10, 7))
    (tmp_path / "next" / "spool").mkdir(parents=True)
    path = tmp_path / "next" / "spool" / f"{new_id().hex}.jsonl"
    path.write_bytes(b'{"from": "another version"}\n' + msgspec.json.encode(posting) + b"\n")
    successor = await Meter.open(settings, database_url, tmp_path / "next")
    assert len((await assert_books_close(database, account, funded=Decimal(100))).events) == 1
    assert not path.exists()
    assert path.with_name(f"{path.name}.unreadable").read_bytes() == b'{"from": "another version"}\n'
    await successor.close()


async def test_one_hold_that_cannot_be_settled_keeps_no_other_from_it(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, meter: Meter
) -> None:
    account, poisoned = await open_account(database), await open_account(database)
    dead = await Meter.open(settings, database_url, tmp_path / "dead", turn_seconds=None)
    for _ in range(3):
        await dead.admit(account.admission())
    bad = await dead.admit(poisoned.admission())
    owner = await asyncpg.connect(database_url)
    await owner.execute("ALTER TABLE meter_scope DISABLE TRIGGER ALL")
    await owner.execute("UPDATE meter_scope SET active = 0 WHERE id = $1", poisoned.organization_id)
    for tenant in (account, poisoned):
        await expire_leases(database, tenant.organization_id)
    await meter.sweep()
    assert (await read_books(database, account.organization_id)).holds == []
    (left,) = (await read_books(database, poisoned.organization_id)).holds
    assert left.request_id == bad.request_id
    await owner.execute("UPDATE meter_scope SET active = 1 WHERE id = $1", poisoned.organization_id)
    await owner.execute("ALTER TABLE meter_scope ENABLE TRIGGER ALL")
    await owner.close()
    await meter.sweep()
    assert (await read_books(database, poisoned.organization_id)).holds == []
    await dead.close()


async def test_a_stream_whose_hold_a_crash_took_is_reserved_again_and_outlives_its_server(
    outage: Outage, settings: Settings, tmp_path: Path
) -> None:
    database = Database(outage.server.url)
    account = await open_account(database, balance="1", price=("0", "0", "100000"))
    server = await Meter.open(settings, outage.server.url, tmp_path / "one", turn_seconds=None)
    stream = await server.admit(account.admission(prompt=0, output=8))
    async with database.meter_transaction() as session:
        await session.execute(text("DELETE FROM hold"))
        await session.execute(text("UPDATE meter_scope SET active = 0, reserved = 0"))
    stream.record_delivery(0, 0, 3)
    await server.turn()
    (hold,) = (await assert_books_close(database, account, funded=Decimal(1))).holds
    assert (hold.request_id, hold.amount, hold.tokens) == (stream.request_id, Decimal("0.8"), 8)
    with pytest.raises(QuotaExceeded):
        await server.admit(account.admission(prompt=0, output=3))
    await expire_leases(database, account.organization_id)
    other = await Meter.open(
        settings, outage.server.url, tmp_path / "two", turn_seconds=None, sweep_grace=timedelta()
    )
    await other.turn()
    (event,) = (await assert_books_close(database, account, funded=Decimal(1))).events
    assert (event.status, event.output_tokens) == ("interrupted", 3)
    await server.turn()
    assert len((await assert_books_close(database, account, funded=Decimal(1))).events) == 1
    for meter in (server, other):
        await meter.close()
    await database.close()
    await asyncio.to_thread(outage.stop)


async def test_what_was_voided_and_billed_late_leaves_the_bucket_once(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, meter: Meter
) -> None:
    account = await open_account(database)
    await limit(database, account, account.project_id, LimitChange(tokens_per_minute=1_000))
    cut_off = await Meter.open(settings, database_url, tmp_path / "cut-off", turn_seconds=None)

    async def level() -> float:
        level = (await read_books(database, account.organization_id)).scopes[account.project_id].token_level
        assert level is not None
        return level

    settled, restored = [await cut_off.admit(account.admission(10, 200)) for _ in range(2)]
    held = await level()
    await void_behind_its_back(database, account, meter)
    assert await level() == pytest.approx(held + 420)
    await cut_off.settle(settled, used(10, 100))
    assert await level() == pytest.approx(held + 420 - 110)
    await cut_off.turn()  # which restores the other one
    assert await level() == pytest.approx(held + 420 - 110 - 210)
    await cut_off.settle(restored, used(10, 50))
    assert await level() == pytest.approx(held + 420 - 110 - 60)
    await cut_off.close()
