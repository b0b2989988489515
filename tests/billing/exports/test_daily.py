"""A folder with an export of each day, written by the worker's sweep."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from farebox.billing.exports import daily
from farebox.billing.exports.manifest import Manifest
from farebox.core.database import Database, open_connection
from farebox.core.settings import Settings
from tests.billing.clock import Clock
from tests.billing.exports.history import HOUR, START, History

# A week before which no other test has written.
BACK = 3650
FIRST = START - timedelta(days=BACK)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(exports_folder=str(tmp_path / "days"))


async def test_each_day_that_is_over_gets_a_folder_once(
    database: Database, history: History, clock: Clock, settings: Settings, tmp_path: Path
) -> None:
    await history.use(-BACK * 24 + 3)
    clock.now = FIRST + timedelta(days=1, seconds=59)
    assert await daily.export_days(database, settings) == daily.DAYS
    days, day = tmp_path / "days", f"{FIRST:%Y-%m-%d}"
    assert day not in {each.name for each in days.iterdir()}, "its last settlements may still come"
    clock.advance(minutes=1)
    assert await daily.export_days(database, settings) == 1
    assert await daily.export_days(database, settings) == 0
    made = msgspec.json.decode((days / day / "manifest.json").read_bytes(), type=Manifest)
    assert (made.export.start, made.export.end, made.export.organization) == (FIRST, FIRST + 24 * HOUR, None)
    assert (made.export.format, made.rows) == ("focus", 2)


async def test_a_day_that_does_not_come_to_the_ledger_holds_no_other_up(
    database: Database, history: History, clock: Clock, settings: Settings, tmp_path: Path
) -> None:
    await history.move(-(BACK + 10) * 24 + 3, "usage", "prepaid", "revenue:nothing", "1")
    clock.now = FIRST - timedelta(days=8)
    assert await daily.export_days(database, settings) == daily.DAYS - 1
    assert not (tmp_path / "days" / f"{FIRST - timedelta(days=10):%Y-%m-%d}" / "manifest.json").exists()


async def test_one_worker_writes_at_a_time(
    database: Database, clock: Clock, settings: Settings, tmp_path: Path
) -> None:
    clock.now = FIRST + timedelta(days=1, hours=1)
    other = await open_connection(database.url, "farebox_meter")
    await other.execute("SELECT pg_advisory_lock(hashtextextended('farebox exports', 0))")
    assert await daily.export_days(database, settings) == 0
    await other.close()
    wrote = await asyncio.gather(*(daily.export_days(database, settings) for _ in range(2)))
    assert sum(wrote) == daily.DAYS


async def test_without_a_folder_nothing_is_written(database: Database, tmp_path: Path) -> None:
    assert await daily.export_days(database, Settings(data=str(tmp_path))) == 0
    assert not any(os.scandir(tmp_path))
