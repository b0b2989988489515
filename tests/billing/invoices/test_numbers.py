"""Numbers have no gaps and no doubles, whatever dies and however many close at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import asyncpg
import msgspec
import pytest
from sqlalchemy import Engine, event, select, text

from farebox.billing.invoices.models import Invoice, NumberSeries
from farebox.billing.invoices.months.closing import close_month
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.ids import new_id
from tests.billing.clock import Clock
from tests.billing.invoices.books import MONTH, Books, day, document
from tests.metering.factories import Account

D = Decimal


class Died(Exception):
    """What ends a process between two statements."""


@contextmanager
def dying_at(statement: int) -> Iterator[list[str]]:
    """The so-many-eth statement from now on is not run; yields those that were."""
    begun: list[str] = []

    def note(_: Any, __: Any, sql: str, *___: Any) -> None:
        if len(begun) == statement:
            raise Died
        begun.append(sql)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield begun
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.fixture
def own(books: Books) -> Books:
    """Books whose numbers nobody else takes."""
    code = new_id().hex[-12:].upper()
    return Books(books.database, books.url, msgspec.structs.replace(books.seller, issuer_code=code))


async def in_debt(books: Books) -> Account:
    """Used and, in part, paid ahead of the invoice: all that closing does is done."""
    account = await books.customer(line=100)
    await books.use(account, day(2), input_tokens=1_005_000)
    await books.pay_in(account, "0.50", day(3))
    return account


async def last_number(books: Books) -> int:
    async with books.database.meter_transaction() as session:
        query = select(NumberSeries.last).where(
            NumberSeries.issuer == books.seller.issuer_code, NumberSeries.series == "INV"
        )
        return await session.scalar(query) or 0


async def test_a_close_that_dies_between_any_two_statements_leaves_nothing(own: Books) -> None:
    account = await in_debt(own)
    held = await own.accounts(account)
    for statement in count():
        with dying_at(statement) as begun, suppress(Died):
            invoice = await own.close(account)
            break
        assert await last_number(own) == 0, begun
        assert await own.accounts(account) == held, begun
    assert statement > 15
    assert invoice.number.endswith("-000001")
    assert (invoice.due, invoice.paid) == (D("1.00"), D("0.50"))
    assert await own.receivable(account) == D("0.50")
    assert await last_number(own) == 1


async def test_a_close_whose_connection_is_killed_leaves_nothing(own: Books) -> None:
    account = await in_debt(own)
    with pytest.raises(Unavailable):
        await close_and_be_killed(own, account)
    assert await last_number(own) == 0
    assert (await own.close(account)).number.endswith("-000001")


async def close_and_be_killed(books: Books, account: Account) -> None:
    """All is written when the connection ends, and nothing committed."""
    killer = await asyncpg.connect(books.url)
    try:
        async with books.database.meter_transaction() as session:
            process = await session.scalar(text("SELECT pg_backend_pid()"))
            await close_month(session, account.organization_id, MONTH, "USD", books.seller)
            assert await killer.fetchval("SELECT pg_terminate_backend($1, 5000)", process)
    finally:
        await killer.close()


@pytest.fixture
async def another(books: Books, clock: Clock) -> AsyncIterator[Database]:
    """A second worker's connections."""
    database = Database(books.url, pool_size=16, clock=clock)
    yield database
    await database.close()


async def test_two_closers_at_once_make_one_document_each_and_no_gap(own: Books, another: Database) -> None:
    accounts = [await in_debt(own) for _ in range(6)]
    rival = Books(another, own.url, own.seller)
    tries = [each.close(account) for account in accounts for each in (own, rival)]
    made = await asyncio.gather(*tries)
    numbers = {invoice.organization_id: invoice.number for invoice in made}
    assert all(numbers[invoice.organization_id] == invoice.number for invoice in made)
    assert sorted(number[-6:] for number in numbers.values()) == [f"{n:06}" for n in range(1, 7)]
    assert await last_number(own) == 6
    async with own.database.meter_transaction() as session:
        query = select(Invoice.number).where(Invoice.number.startswith(own.seller.issuer_code))
        assert len(list(await session.scalars(query))) == 6


async def test_each_year_and_each_kind_begins_at_one(own: Books, clock: Clock) -> None:
    account, other = await own.customer(line=10), await own.customer()
    await own.pay_in(other, "5", day(1))
    for each in (account, other):
        await own.use(each, day(2), input_tokens=1_000_000)
    await own.use(account, day(2, MONTH.next), input_tokens=1_000_000)
    clock.now = MONTH.end + timedelta(days=30)
    made = [await own.close(account), await own.close(other)]
    clock.now += timedelta(days=365)
    made.append(await own.close(account, MONTH.next))
    code = own.seller.issuer_code
    assert [document(each).number for each in made] == [
        f"{code}-INV-2025-000001",
        f"{code}-ST-2025-000001",
        f"{code}-INV-2026-000001",
    ]
