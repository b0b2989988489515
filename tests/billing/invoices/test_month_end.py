"""The worker's part: months are closed for everybody, by any number of workers; obstacles are told."""

import asyncio
from datetime import timedelta
from decimal import Decimal

import asyncpg
from prometheus_client import generate_latest
from sqlalchemy import select

from farebox.billing.invoices.models import ClosedMonth, Invoice
from farebox.billing.invoices.months.month import first_day, month_of_day
from farebox.billing.invoices.months.month_end import close_ended_months, keep_invoices, months_to_close
from farebox.billing.months import Month, month_of
from farebox.cli.assembly import make_worker
from farebox.core.metrics import REGISTRY
from farebox.core.settings import Settings
from farebox.limits.balances import add_to_balance
from tests.billing.clock import Clock
from tests.billing.invoices.books import Books

D = Decimal


async def documents(books: Books) -> list[Invoice]:
    async with books.database.meter_transaction() as session:
        return list(await session.scalars(select(Invoice).order_by(Invoice.number)))


async def waiting(books: Books, settings: Settings) -> list[Month]:
    async with books.database.meter_transaction() as session:
        return await months_to_close(session, settings)


async def test_the_worker_closes_each_month_once_its_grace_is_over(empty_books: Books, clock: Clock) -> None:
    books, month = empty_books, month_of(clock.now)
    spender, saver, idle = [await books.customer(line=line) for line in (100, 0, 0)]
    at = clock.now
    await books.use(spender, at, input_tokens=1_000_000)
    await books.pay_in(saver, "5", at)
    worker = make_worker(books.database, books.seller)
    clock.now = month.end + timedelta(minutes=59)
    await worker.sweep()
    assert await documents(books) == []
    clock.now = month.end + timedelta(minutes=61)
    await worker.sweep()
    made = await documents(books)
    assert {(each.organization_id, each.kind, each.month) for each in made} == {
        (spender.organization_id, "invoice", first_day(month)),
        (saver.organization_id, "statement", first_day(month)),
    }
    assert idle.organization_id not in {each.organization_id for each in made}
    await worker.sweep()
    assert len(await documents(books)) == 2
    assert await waiting(books, books.seller) == []


async def test_workers_that_close_at_once_make_each_document_once(empty_books: Books, clock: Clock) -> None:
    books, month = empty_books, month_of(clock.now)
    for _ in range(4):
        await books.use(await books.customer(line=100), clock.now, input_tokens=1_005_000)
    clock.now = month.end + timedelta(hours=2)
    await asyncio.gather(*(close_ended_months(books.database, books.seller) for _ in range(2)))
    assert [each.number[-6:] for each in await documents(books)] == [f"{n:06}" for n in range(1, 5)]


async def test_a_month_without_an_issuer_is_told_and_closed_later(empty_books: Books, clock: Clock) -> None:
    books, month = empty_books, month_of(clock.now)
    account = await books.customer(line=100)
    await books.use(account, clock.now, input_tokens=1_000_000)
    clock.now = month.end + timedelta(hours=2)
    (unclosed,) = await close_ended_months(books.database, Settings())
    assert (unclosed.organization_id, unclosed.month) == (account.organization_id, month)
    assert "FAREBOX_ISSUER_NAME" in str(unclosed.reason)
    assert b"farebox_unclosed_invoices 1.0" in generate_latest(REGISTRY)
    assert await waiting(books, Settings()) == [month]
    assert await close_ended_months(books.database, books.seller) == []
    assert b"farebox_unclosed_invoices 0.0" in generate_latest(REGISTRY)
    assert len(await documents(books)) == 1


async def test_whoever_cannot_be_closed_holds_up_nobody_else(empty_books: Books, clock: Clock) -> None:
    """One has used in a currency that its balance is not kept in."""
    books, month = empty_books, month_of(clock.now)
    odd, sound = await books.customer(line=100), await books.customer(line=100)
    await books.use(odd, clock.now, input_tokens=1_000_000)
    await books.use(sound, clock.now, input_tokens=1_000_000)
    async with books.database.meter_transaction() as session:
        await add_to_balance(session, odd.organization_id, amount=Decimal(0), currency="EUR")
    clock.now = month.end + timedelta(hours=2)
    (unclosed,) = await close_ended_months(books.database, books.seller)
    assert unclosed.organization_id == odd.organization_id
    assert "kept in EUR" in str(unclosed.reason)
    assert [each.organization_id for each in await documents(books)] == [sound.organization_id]


async def test_months_that_were_missed_are_closed_in_their_order(empty_books: Books, clock: Clock) -> None:
    books, month = empty_books, month_of(clock.now)
    account = await books.customer(line=100)
    await books.use(account, clock.now, input_tokens=1_000_000)
    await books.use(account, month.next.start + timedelta(days=1), input_tokens=2_000_000)
    clock.now = month.next.next.end + timedelta(hours=2)
    await keep_invoices(books.database, books.seller)
    made = await documents(books)
    assert [(month_of_day(each.month), each.due) for each in made] == [(month, D(1)), (month.next, D(2))]
    async with books.database.meter_transaction() as session:
        closed = set(await session.scalars(select(ClosedMonth.month)))
    assert closed == {first_day(month), first_day(month.next), first_day(month.next.next)}


async def test_books_that_cannot_be_added_up_hold_up_nobody_else(empty_books: Books, clock: Clock) -> None:
    """More than an amount can hold: what Postgres says to it is told."""
    books, month = empty_books, month_of(clock.now)
    odd, sound = await books.customer(), await books.customer(line=100)
    await books.use(odd, clock.now, input_tokens=1)
    await books.use(sound, clock.now, input_tokens=1_000_000)
    owner = await asyncpg.connect(books.url)
    await owner.execute(
        "UPDATE usage_hour SET amount = 999999999999999999 WHERE organization_id = $1", odd.organization_id
    )
    await owner.execute(
        "INSERT INTO usage_hour SELECT organization_id, hour, project_id, api_key_id, 'other', currency,"
        " requests, input_tokens, 0, 0, amount, input_amount, 0 FROM usage_hour WHERE organization_id = $1",
        odd.organization_id,
    )
    await owner.close()
    clock.now = month.end + timedelta(hours=2)
    (unclosed,) = await close_ended_months(books.database, books.seller)
    assert (unclosed.organization_id, unclosed.number) == (odd.organization_id, None)
    assert unclosed.reason
    assert [each.organization_id for each in await documents(books)] == [sound.organization_id]
