"""Whole answers are billed before they leave, and credited when nobody got them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.metering.admission import Grant
from farebox.metering.meter import Meter
from farebox.usage.line_items import costs_by_line_item
from farebox.usage.queries import newest_requests
from tests.metering.factories import Account, assert_books_close, open_account, used
from tests.metering.mortal import Mortal
from tests.metering.outages import expire_handover
from tests.metering.test_contention import locked

FUNDS = Decimal(100)


@pytest.fixture
async def owner(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Meter]:
    meter = await Meter.open(settings, database_url, tmp_path / "owner", turn_seconds=None)
    yield meter
    await meter.close()


@pytest.fixture
async def sweeper(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Meter]:
    meter = await Meter.open(
        settings, database_url, tmp_path / "sweeper", turn_seconds=None, sweep_grace=timedelta()
    )
    yield meter
    await meter.close()


async def answer(meter: Meter, account: Account) -> Grant:
    """A whole answer, settled and about to leave."""
    grant = await meter.admit(account.admission())
    await meter.settle(grant, used(6, 15, cached=4, to_be_handed_over=True))
    return grant


async def on_their_way(database: Database) -> set[UUID]:
    async with database.meter_transaction() as session:
        return set(await session.scalars(text("SELECT request_id FROM handover")))


async def test_what_was_handed_over_stays_billed(database: Database, owner: Meter, sweeper: Meter) -> None:
    account = await open_account(database)
    grant = await answer(owner, account)
    assert grant.request_id in await on_their_way(database)
    owner.hand_over(grant, reached=True)
    await owner.turn()
    assert grant.request_id not in await on_their_way(database)
    await sweeper.turn()
    books = await assert_books_close(database, account, funded=FUNDS)
    assert (len(books.events), books.amendments) == (1, [])


async def test_what_is_still_on_its_way_is_kept(database: Database, owner: Meter, sweeper: Meter) -> None:
    account = await open_account(database)
    grant = await answer(owner, account)
    await expire_handover(database, grant.request_id)
    await owner.turn()
    await sweeper.turn()
    assert (await assert_books_close(database, account, funded=FUNDS)).amendments == []
    owner.hand_over(grant, reached=True)


async def test_what_nobody_took_is_credited_in_all_books_once(
    database: Database, owner: Meter, sweeper: Meter
) -> None:
    account = await open_account(database)
    grant = await answer(owner, account)
    owner.hand_over(grant, reached=False)
    await owner.turn()
    assert (await assert_books_close(database, account, funded=FUNDS)).amendments == []
    await expire_handover(database, grant.request_id)
    for _ in range(2):
        await sweeper.turn()
    books = await assert_books_close(database, account, funded=FUNDS)
    (event,), (credit,) = books.events, books.amendments
    assert (event.status, credit.status) == ("completed", "undelivered")
    assert (credit.input_tokens, credit.cached_input_tokens, credit.output_tokens) == (-6, -4, -15)
    assert books.scopes[account.organization_id].balance == FUNDS
    assert books.rollup_tokens == (0, 0, 0)
    now = datetime.now(UTC)
    async with database.transaction(organization_id=account.organization_id) as session:
        (line,) = await newest_requests(session, account.organization_id)
        costs = await costs_by_line_item(
            session, account.organization_id, start=now - timedelta(days=1), end=now + timedelta(days=1)
        )
    assert (line.status, line.output_tokens, line.amount) == ("undelivered", 0, Decimal(0))
    assert {cost.amount for cost in costs} == {0}


async def test_what_a_dead_process_was_about_to_hand_over_is_credited_once(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, owner: Meter, sweeper: Meter
) -> None:
    account = await open_account(database)
    grants = [await answer(owner, account) for _ in range(3)]
    owner.hand_over(grants[0], reached=True)
    await owner.turn()
    for grant in grants:
        await expire_handover(database, grant.request_id)
    other = await Meter.open(
        settings, database_url, tmp_path / "other", turn_seconds=None, sweep_grace=timedelta()
    )
    await asyncio.gather(*(meter.sweep() for meter in (sweeper, other, sweeper, other)))
    await other.close()
    books = await assert_books_close(database, account, funded=FUNDS)
    assert {each.request_id for each in books.amendments} == {each.request_id for each in grants[1:]}


async def test_a_credit_waits_for_no_lock(
    database: Database, database_url: str, owner: Meter, sweeper: Meter
) -> None:
    account, blocked = await open_account(database), await open_account(database)
    grants = [await answer(owner, each) for each in (blocked, account)]
    for grant in grants:
        owner.hand_over(grant, reached=False)
        await expire_handover(database, grant.request_id)
    async with locked(database_url, blocked):
        await sweeper.sweep()
        assert len((await assert_books_close(database, account, funded=FUNDS)).amendments) == 1
        assert (await assert_books_close(database, blocked, funded=FUNDS)).amendments == []
    await sweeper.sweep()
    assert len((await assert_books_close(database, blocked, funded=FUNDS)).amendments) == 1


async def test_a_credit_of_another_month_gives_this_months_cap_nothing_back(
    database: Database, owner: Meter, sweeper: Meter
) -> None:
    account = await open_account(database)
    grant = await answer(owner, account)
    owner.hand_over(grant, reached=False)
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE meter_scope SET spend_month = :later, spent = 5 WHERE organization_id = :id"),
            {"later": date(2999, 1, 1), "id": account.organization_id},
        )
    await expire_handover(database, grant.request_id)
    await sweeper.sweep()
    async with database.meter_transaction() as session:
        spent = await session.scalars(
            text("SELECT DISTINCT spent FROM meter_scope WHERE organization_id = :id"),
            {"id": account.organization_id},
        )
        assert list(spent) == [5]


@pytest.mark.parametrize("reached", [True, False])
async def test_of_what_waits_for_postgres_an_heir_bills_what_was_handed_over(
    database: Database, mortal: Mortal, sweeper: Meter, *, reached: bool
) -> None:
    account = await open_account(database)
    grants = [await mortal.meter.admit(account.admission()) for _ in range(2)]
    await mortal.lose_postgres()
    for grant in grants:
        settlement = used(6, 15, cached=4, to_be_handed_over=True)
        assert (await mortal.meter.settle(grant, settlement)).spooled
    if reached:
        mortal.meter.hand_over(grants[0], reached=True)
    await mortal.lose_postgres()
    for name in ("heir", "twice"):
        await mortal.be_buried(name)
    await sweeper.turn()
    books = await assert_books_close(database, account, funded=FUNDS)
    assert [each.request_id for each in books.events] == ([grants[0].request_id] if reached else [])
    assert (books.holds, books.amendments) == ([], [])


@pytest.mark.parametrize("reached", [True, False])
async def test_what_waited_for_postgres_is_billed_or_credited_when_it_is_back(
    database: Database, mortal: Mortal, sweeper: Meter, *, reached: bool
) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    await mortal.lose_postgres()
    await mortal.meter.settle(grant, used(6, 15, cached=4, to_be_handed_over=True))
    mortal.meter.hand_over(grant, reached=reached)
    mortal.wire.away = False
    for _ in range(2):
        await mortal.meter.turn()
    await expire_handover(database, grant.request_id)
    await sweeper.turn()
    books = await assert_books_close(database, account, funded=FUNDS)
    assert len(books.events) == 1
    assert [each.status for each in books.amendments] == ([] if reached else ["undelivered"])


async def test_an_answer_whose_settlement_lost_its_answer_is_confirmed_all_the_same(
    database: Database, mortal: Mortal, sweeper: Meter
) -> None:
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    await mortal.meter.settle(await mortal.meter.admit(account.admission()), used(1, 1))
    mortal.wire.lose_answers = 1
    settled = await mortal.meter.settle(grant, used(6, 15, cached=4, to_be_handed_over=True))
    assert (settled.spooled, mortal.wire.lost) == (True, 1)
    mortal.meter.hand_over(grant, reached=True)
    for _ in range(2):
        await mortal.meter.turn()
    await expire_handover(database, grant.request_id)
    await sweeper.turn()
    books = await assert_books_close(database, account, funded=FUNDS)
    assert (len(books.events), books.amendments) == (2, [])


async def test_what_left_is_kept_while_its_settlement_is_still_to_be_replayed(
    database: Database, database_url: str, mortal: Mortal, sweeper: Meter
) -> None:
    """Its row is there: only the answer to the settlement got lost."""
    account = await open_account(database)
    grant = await mortal.meter.admit(account.admission())
    await mortal.meter.settle(await mortal.meter.admit(account.admission()), used(1, 1))
    mortal.wire.lose_answers = 1
    await mortal.meter.settle(grant, used(6, 15, cached=4, to_be_handed_over=True))
    mortal.meter.hand_over(grant, reached=True)
    async with locked(database_url, account):
        await expire_handover(database, grant.request_id)
        await mortal.meter.turn()
        assert mortal.meter.spooled_settlements == 1
    await sweeper.turn()
    assert (await assert_books_close(database, account, funded=FUNDS)).amendments == []


async def test_a_clock_set_back_keeps_no_bill_for_what_nobody_got(
    database: Database, owner: Meter, sweeper: Meter
) -> None:
    account = await open_account(database)
    grant = await answer(owner, account)
    owner.hand_over(grant, reached=False)
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE handover SET lease_expires_at = now() + interval '1 day' WHERE request_id = :id"),
            {"id": grant.request_id},
        )
    await sweeper.sweep()
    async with database.meter_transaction() as session:
        left = await session.scalar(
            text("SELECT lease_expires_at - now() < interval '11 s' FROM handover WHERE request_id = :id"),
            {"id": grant.request_id},
        )
    assert left is True
