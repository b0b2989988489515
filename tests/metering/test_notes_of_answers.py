"""Whole answers that left just before Postgres did: it cannot be told, and their process notes it on disk."""

import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from tests.metering.factories import assert_books_close, open_account, used
from tests.metering.mortal import Mortal
from tests.metering.outages import expire_handover
from tests.metering.test_contention import locked

FUNDS = Decimal(100)


@pytest.fixture
async def sweeper(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Meter]:
    meter = await Meter.open(
        settings, database_url, tmp_path / "sweeper", turn_seconds=None, sweep_grace=timedelta()
    )
    yield meter
    await meter.close()


@pytest.mark.parametrize("reached", [True, False])
async def test_what_left_before_postgres_did_stays_billed_when_its_process_dies(
    database: Database, mortal: Mortal, sweeper: Meter, *, reached: bool
) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    settled = await mortal.meter.settle(grant, used(6, 15, cached=4, to_be_handed_over=True))
    assert not settled.spooled
    mortal.meter.hand_over(grant, reached=reached)
    await mortal.lose_postgres()
    for name in ("heir", "twice"):
        assert list((await mortal.be_buried(name)).iterdir()) == []
    await expire_handover(database, grant.request_id)
    await sweeper.turn()
    books = await assert_books_close(database, account, funded=FUNDS)
    assert [each.request_id for each in books.events] == [grant.request_id]
    assert [each.status for each in books.amendments] == ([] if reached else ["undelivered"])


async def test_a_row_that_somebody_keeps_locked_stops_no_start(
    database: Database, database_url: str, mortal: Mortal
) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    await mortal.meter.settle(grant, used(6, 15, cached=4, to_be_handed_over=True))
    mortal.meter.hand_over(grant, reached=True)
    await mortal.lose_postgres()
    blocker = await asyncpg.connect(database_url)
    async with blocker.transaction():
        await blocker.execute("SELECT FROM handover WHERE request_id = $1 FOR UPDATE", grant.request_id)
        spool = await mortal.be_buried()
    await blocker.close()
    assert {path.suffix for path in spool.iterdir()} == {".jsonl", ".delivered"}
    assert list((await mortal.be_buried("later")).iterdir()) == []


@pytest.mark.parametrize("reached", [True, False])
async def test_what_an_heir_finds_locked_stays_billed_if_it_had_left(
    database: Database,
    database_url: str,
    settings: Settings,
    mortal: Mortal,
    sweeper: Meter,
    *,
    reached: bool,
) -> None:
    """Its settlement had committed, but the answer to it got lost: spooled, though it is in the books."""
    account = await open_account(database)
    # A connection's first settlement asks Postgres for more than itself.
    await mortal.meter.settle(await mortal.meter.admit(account.admission()), used(1, 0))
    grant = await mortal.meter.admit(account.admission())
    mortal.wire.lose_answers = 1
    settled = await mortal.meter.settle(grant, used(6, 15, cached=4, to_be_handed_over=True))
    assert settled.spooled
    assert mortal.wire.lost == 1
    mortal.meter.hand_over(grant, reached=reached)
    await mortal.lose_postgres()
    heir = mortal.directory.parent / "heir"
    shutil.copytree(mortal.directory / "spool", heir / "spool")
    async with locked(database_url, account):
        adopting = await Meter.open(settings, database_url, heir, turn_seconds=None)
        assert adopting.spooled_settlements == int(reached)
    await adopting.turn()
    assert adopting.spooled_settlements == 0
    await adopting.close()
    await expire_handover(database, grant.request_id)
    await sweeper.turn()
    books = await assert_books_close(database, account, funded=FUNDS)
    assert [each.status for each in books.amendments] == ([] if reached else ["undelivered"])


async def test_a_note_of_what_left_is_forgotten_once_postgres_knows(
    database: Database, mortal: Mortal, sweeper: Meter
) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    await mortal.meter.settle(grant, used(6, 15, cached=4, to_be_handed_over=True))
    mortal.meter.hand_over(grant, reached=True)
    await mortal.lose_postgres()
    assert mortal.files == {".delivered"}
    mortal.wire.away = False
    await mortal.meter.turn()
    assert mortal.files == set()
    await expire_handover(database, grant.request_id)
    await sweeper.turn()
    assert (await assert_books_close(database, account, funded=FUNDS)).amendments == []
