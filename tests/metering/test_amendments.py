"""What an owner knows better than the sweep that settled its request: billed as a difference, once."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.limits.service import LimitChange
from farebox.metering.admission import Grant
from farebox.metering.meter import Meter
from farebox.usage.line_items import costs_by_line_item
from farebox.usage.queries import newest_requests, usage_by_bucket
from tests.metering.cut_wire import CutWire
from tests.metering.factories import Account, assert_books_close, limit, open_account, used
from tests.metering.outages import expire_leases


@dataclass(frozen=True)
class Owner:
    """A replica whose way to Postgres can be cut, and another that sweeps what it holds meanwhile."""

    meter: Meter
    wire: CutWire
    directory: Path
    sweeper: Meter
    database: Database

    async def stream(self, account: Account, checkpoint: int, *, output: int = 20) -> Grant:
        """A stream that has recorded `checkpoint` output tokens, and that a sweep has settled at that."""
        grant = await self.meter.admit(account.admission(prompt=10, output=output))
        grant.record_delivery(6, 4, checkpoint)
        await self.meter.turn()
        self.cut_off()
        await expire_leases(self.database, account.organization_id)
        await self.sweeper.turn()
        return grant

    def cut_off(self) -> None:
        self.wire.away = True
        self.wire.cut()


@pytest.fixture
async def owner(
    database: Database, settings: Settings, database_url: str, tmp_path: Path
) -> AsyncIterator[Owner]:
    sweeper = await Meter.open(
        settings, database_url, tmp_path / "sweeper", turn_seconds=None, sweep_grace=timedelta()
    )
    async with CutWire(database_url) as wire:
        meter = await Meter.open(settings, wire.url, tmp_path / "owner", turn_seconds=None)
        yield Owner(meter, wire, tmp_path / "owner", sweeper, database)
        await meter.close()
    await sweeper.close()


async def test_a_whole_answer_that_was_swept_at_its_checkpoint_is_amended_by_the_rest(
    database: Database, owner: Owner
) -> None:
    account = await open_account(database, price=("1", "0.5", "2"))
    grant = await owner.stream(account, 3)
    swept = await assert_books_close(database, account, funded=Decimal(100))
    assert (await owner.meter.settle(grant, used(6, 17, cached=4))).spooled
    owner.wire.away = False
    await owner.meter.turn()
    books = await assert_books_close(database, account, funded=Decimal(100))
    (event,) = books.events
    assert (event.status, event.output_tokens, event.amount) == ("interrupted", 3, swept.events[0].amount)
    (amendment,) = books.amendments
    assert (amendment.request_id, amendment.status) == (grant.request_id, "completed")
    assert (amendment.input_tokens, amendment.cached_input_tokens, amendment.output_tokens) == (0, 0, 14)
    assert amendment.amount == Decimal("0.000028")
    # The next try tells what the ledger has, and changes nothing.
    assert (await owner.meter.settle(grant, used(6, 17, cached=4))).amount == Decimal("0.000042")
    assert (await assert_books_close(database, account, funded=Decimal(100))).rollup_requests == 1


async def test_an_amendment_whose_answer_is_lost_is_booked_once(database: Database, owner: Owner) -> None:
    account = await open_account(database)
    grant = await owner.stream(account, 3)
    owner.wire.away = False
    # The first statement finds no hold; the second amends.
    owner.wire.lose_answers = 2
    assert (await owner.meter.settle(grant, used(6, 17, cached=4))).spooled
    await owner.meter.settle(grant, used(6, 17, cached=4))
    owner.wire.lose_answers = 0
    await owner.meter.turn()
    assert owner.wire.lost == 2
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert [amendment.output_tokens for amendment in books.amendments] == [14]


async def test_replicas_that_amend_at_once_amend_once(
    database: Database, settings: Settings, database_url: str, tmp_path: Path, owner: Owner
) -> None:
    account = await open_account(database)
    grant = await owner.stream(account, 3)
    await owner.meter.settle(grant, used(6, 17, cached=4))
    heirs = [tmp_path / str(number) for number in range(4)]
    for heir in heirs:
        shutil.copytree(owner.directory / "spool", heir / "spool")
    owner.wire.away = False
    meters = await asyncio.gather(
        *(Meter.open(settings, database_url, heir, turn_seconds=None) for heir in heirs), owner.meter.turn()
    )
    books = await assert_books_close(database, account, funded=Decimal(100))
    assert [amendment.output_tokens for amendment in books.amendments] == [14]
    for meter in meters[:-1]:
        assert meter is not None
        await meter.close()


@pytest.mark.parametrize("cap", [None, Decimal("0.7")], ids=str)
async def test_an_amendment_takes_no_more_than_balance_and_caps_have_left(
    database: Database, owner: Owner, cap: Decimal | None
) -> None:
    account = await open_account(database, balance="1", price=("0", "0", "100000"))
    if cap is not None:
        await limit(database, account, account.project_id, LimitChange(monthly_cap=cap))
    grant = await owner.stream(account, 2, output=7)
    other = await owner.sweeper.admit(account.admission(prompt=0, output=4))
    owner.wire.away = False
    left = Decimal("0.4") if cap is None else Decimal("0.1")
    assert (await owner.meter.settle(grant, used(6, 7, cached=4))).amount == Decimal("0.2") + left
    await owner.sweeper.settle(other, used(0, 4))
    books = await assert_books_close(database, account, funded=Decimal(1))
    assert [(each.output_tokens, each.amount) for each in books.amendments] == [(5, left)]


async def test_what_its_owner_settled_is_not_amended(database: Database, owner: Owner) -> None:
    account = await open_account(database)
    grant = await owner.meter.admit(account.admission())
    first = await owner.meter.settle(grant, used(6, 5, cached=4))
    assert (await owner.meter.settle(grant, used(6, 17, cached=4))).amount == first.amount
    assert (await assert_books_close(database, account, funded=Decimal(100))).amendments == []


async def test_less_than_what_was_swept_is_not_amended(database: Database, owner: Owner) -> None:
    account = await open_account(database)
    grant = await owner.stream(account, 9)
    owner.wire.away = False
    await owner.meter.settle(grant, used(6, 3, cached=4))
    assert (await assert_books_close(database, account, funded=Decimal(100))).amendments == []


async def test_reports_count_an_amendment_with_its_request(database: Database, owner: Owner) -> None:
    account = await open_account(database, price=("1", "0.5", "2"))
    grant = await owner.stream(account, 3)
    owner.wire.away = False
    await owner.meter.settle(grant, used(6, 17, cached=4))
    tenant, total = account.organization_id, Decimal("0.000042")
    start, end = utc_now() - timedelta(days=1), utc_now() + timedelta(days=1)
    async with database.transaction(organization_id=tenant) as session:
        for width in (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)):
            found = await usage_by_bucket(session, tenant, start=start, end=end, width=width)
            assert sum(each.requests for each in found) == 1
            assert sum(each.output_tokens for each in found) == 17
            assert sum(each.amount for each in found) == total
        items = await costs_by_line_item(session, tenant, start=start, end=end)
        assert {each.line_item.split(", ")[1]: (each.quantity, each.amount) for each in items} == {
            "input_tokens": (6, Decimal("0.000006")),
            "cached_input_tokens": (4, Decimal("0.000002")),
            "output_tokens": (17, Decimal("0.000034")),
        }
        (request,) = await newest_requests(session, tenant)
        assert (request.status, request.output_tokens, request.amount) == ("completed", 17, total)


@pytest.mark.parametrize("balance", ["0.01", "0.03", "0.05", "0.0505"])
async def test_line_items_of_a_capped_settlement_add_up(
    database: Database, owner: Owner, balance: str
) -> None:
    """At 300, 30 and 1,000 a million, 100, 700 and 5 tokens come to 0.03, 0.021 and 0.005."""
    account = await open_account(database, balance="1", price=("300", "30", "1000"))
    grant = await owner.meter.admit(account.admission(prompt=800, output=5))
    async with database.meter_transaction() as session:
        await session.execute(
            text("UPDATE hold SET amount = :amount WHERE organization_id = :id"),
            {"id": account.organization_id, "amount": Decimal(balance)},
        )
        await session.execute(
            text("UPDATE meter_scope SET reserved = :amount WHERE organization_id = :id"),
            {"id": account.organization_id, "amount": Decimal(balance)},
        )
    assert (await owner.meter.settle(grant, used(100, 5, cached=700))).amount == Decimal(balance)
    start, end = utc_now() - timedelta(days=1), utc_now() + timedelta(days=1)
    async with database.transaction(organization_id=account.organization_id) as session:
        items = await costs_by_line_item(session, account.organization_id, start=start, end=end)
    assert sum(item.amount for item in items) == Decimal(balance)
    assert all(item.amount >= 0 for item in items)


async def test_an_amendment_never_exceeds_what_was_reserved(database: Database, owner: Owner) -> None:
    account = await open_account(database, price=("0", "0", "1000000"), balance="1000")
    grant = await owner.stream(account, 3, output=20)
    owner.wire.away = False
    await owner.meter.settle(grant, used(6, 500, cached=4))
    books = await assert_books_close(database, account, funded=Decimal(1000))
    assert [event.amount for event in books.events] == [Decimal(3)]
    assert [each.amount for each in books.amendments] == [Decimal(17)]


async def test_what_was_told_to_the_last_token_is_amended_by_how_it_ended(
    database: Database, owner: Owner
) -> None:
    account = await open_account(database)
    grant = await owner.stream(account, 15)
    owner.wire.away = False
    for _ in range(2):
        await owner.meter.settle(grant, used(6, 15, cached=4))
    books = await assert_books_close(database, account, funded=Decimal(100))
    (event,), (amendment,) = books.events, books.amendments
    assert (event.status, amendment.status) == ("interrupted", "completed")
    assert (amendment.output_tokens, amendment.amount) == (0, Decimal(0))
