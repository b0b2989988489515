"""Payments of invoices: each goes where it should, and is counted once."""

from datetime import datetime
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from farebox.billing.errors import OtherTransfer
from farebox.billing.funds import top_up
from farebox.billing.invoices.credit_notes import credit
from farebox.billing.invoices.errors import NotPayable, UnknownInvoice
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.month_end import assign_payments, keep_invoices
from farebox.billing.invoices.payments import pay, write_off
from farebox.billing.models import LedgerTransfer
from farebox.billing.months import Month
from farebox.billing.withdrawals import restore, withdraw
from farebox.core.clock import utc_now
from farebox.core.ids import new_id
from farebox.limits.balances import add_to_balance
from farebox.metering.models import UsageHour
from tests.billing.invoices.books import MONTH, Books, day
from tests.metering.factories import Account

D = Decimal


async def pay_for(
    books: Books, invoice: Invoice, amount: str, reference: str = "bank 1"
) -> tuple[Invoice, bool]:
    async with books.database.meter_transaction() as session:
        return await pay(session, invoice.number, amount=Decimal(amount), reference=reference)


async def owing(books: Books, dollars: int, month: Month = MONTH) -> tuple[Account, Invoice]:
    account = await books.customer(line=10_000)
    await books.use(account, day(2, month), input_tokens=dollars * 1_000_000)
    return account, await books.close(account, month)


async def test_an_invoice_is_paid_when_it_is_covered_and_once(books: Books) -> None:
    account, invoice = await owing(books, 12)
    part, taken = await pay_for(books, invoice, "5")
    assert (part.status, part.paid, part.outstanding, taken) == ("open", D(5), D(7), True)
    again, taken = await pay_for(books, invoice, "5")
    assert (again.paid, taken) == (D(5), False)
    whole, _ = await pay_for(books, invoice, "7", "bank 2")
    assert (whole.status, whole.outstanding) == ("paid", D(0))
    assert whole.settled_at is not None
    assert await books.accounts(account) == {"cash": -12, "revenue:demo": 12}
    same, taken = await pay_for(books, invoice, "7", "bank 2")
    assert (same.settled_at, taken) == (whole.settled_at, False)


async def test_a_reference_of_another_amount_is_refused(books: Books) -> None:
    _, invoice = await owing(books, 12)
    await pay_for(books, invoice, "5")
    with pytest.raises(OtherTransfer):
        await pay_for(books, invoice, "6")


async def test_what_is_above_an_invoice_pays_the_others_and_the_rest_is_prepaid(books: Books) -> None:
    account, first = await owing(books, 3)
    await books.use(account, day(2, MONTH.next), input_tokens=4_000_000)
    second = await books.close(account, MONTH.next)
    await pay_for(books, second, "10")
    assert [(await books.reload(each)).status for each in (first, second)] == ["paid", "paid"]
    assert (await books.accounts(account))["prepaid"] == 3


async def test_a_payment_goes_to_the_invoice_that_it_names(books: Books) -> None:
    account, first = await owing(books, 3)
    await books.use(account, day(2, MONTH.next), input_tokens=3_000_000)
    second = await books.close(account, MONTH.next)
    await pay_for(books, second, "3")
    assert [(await books.reload(each)).status for each in (first, second)] == ["open", "paid"]


async def test_a_payment_on_account_goes_to_the_oldest_invoice(books: Books) -> None:
    account, first = await owing(books, 3)
    await books.use(account, day(2, MONTH.next), input_tokens=4_000_000)
    second = await books.close(account, MONTH.next)
    await books.pay_in(account, "5", utc_now())
    await keep_invoices(books.database, books.seller)
    first, second = await books.reload(first), await books.reload(second)
    assert [(each.status, each.paid) for each in (first, second)] == [("paid", D(3)), ("open", D(2))]
    await keep_invoices(books.database, books.seller)
    assert (await books.reload(second)).paid == 2


async def test_what_was_paid_before_there_was_an_invoice_is_not_asked_for_again(books: Books) -> None:
    account = await books.customer(line=100)
    await books.use(account, day(2), input_tokens=5_000_000)
    await books.pay_in(account, "2", day(3))
    invoice = await books.close(account)
    assert (invoice.due, invoice.paid, invoice.outstanding) == (D(5), D(2), D(3))
    assert await books.receivable(account) == 3


async def test_what_nobody_pays_is_uncollectible_until_somebody_does(books: Books) -> None:
    account, invoice = await owing(books, 3)
    async with books.database.meter_transaction() as session:
        assert (await write_off(session, invoice.number)).status == "uncollectible"
    assert await books.receivable(account) == 3
    late, _ = await pay_for(books, invoice, "3")
    assert late.status == "paid"
    with pytest.raises(NotPayable):
        async with books.database.meter_transaction() as session:
            await write_off(session, invoice.number)


async def test_a_statement_and_a_void_invoice_ask_for_nothing(books: Books) -> None:
    account = await books.customer()
    await books.pay_in(account, "3", day(1))
    statement = await books.close(account)
    _, void = await owing(books, 3)
    async with books.database.meter_transaction() as session:
        await credit(session, void.number, reason="mistake", settings=books.seller)
    for each in (statement, void):
        with pytest.raises(NotPayable):
            await pay_for(books, each, "3")


async def test_a_number_that_nobody_has(books: Books) -> None:
    with pytest.raises(UnknownInvoice):
        async with books.database.meter_transaction() as session:
            await pay(session, "INV-1999-000001", amount=Decimal(1), reference="x")


@pytest.mark.parametrize("seed", range(4))
async def test_what_invoices_have_open_is_what_is_receivable(books: Books, seed: int) -> None:
    """A year of usage, and of payments ahead, on account and of invoices. There are fractions of cents."""
    random = Random(seed)
    account = await books.customer(line=100_000)
    month, invoices = MONTH, list[Invoice]()
    for step in range(12):
        for _ in range(random.randint(0, 3)):
            tokens = random.randint(1, 5_000_000)
            if random.random() < 0.6:
                await books.use(account, day(random.randint(1, 25), month), input_tokens=tokens)
            else:
                amount = random.randint(1, 500)
                await books.pay_in(account, f"{amount / 100:.2f}", day(random.randint(1, 25), month))
        invoice = await books.close_if_used(account, month)
        if invoice is not None and invoice.kind == "invoice":
            invoices.append(invoice)
        if invoices and random.random() < 0.5:
            chosen = random.choice(invoices)
            amount = random.randint(1, 700)
            await pay_for(books, chosen, f"{amount / 100:.2f}", f"step {step}")
        await assign_payments(books.database, account.organization_id, "USD")
        rows = [await books.reload(each) for each in invoices]
        open_ = sum((each.outstanding for each in rows), Decimal(0))
        held = await books.accounts(account)
        assert -held.get("receivable", Decimal(0)) == open_, (seed, step)
        if open_:
            assert held.get("prepaid", 0) == 0, (seed, step)
        for each in rows:
            assert (each.status == "paid") == (each.outstanding == 0)
        month = month.next
    assert invoices


async def test_a_dispute_that_is_won_pays_no_invoice(books: Books) -> None:
    account, invoice = await owing(books, 100)
    await dispute(books, account, 100)
    async with books.database.meter_transaction() as session:
        await restore(session, account.organization_id, amount=D(100), reference="d1, won", **DISPUTE)
    await assign_payments(books.database, account.organization_id, "USD")
    assert (await books.reload(invoice)).outstanding == 100
    assert (await books.accounts(account))["receivable"] == -100


async def test_what_clears_a_chargeback_pays_no_later_invoice(books: Books) -> None:
    account, invoice = await owing(books, 100)
    await receive(books, account, 100, "stripe 1")
    assert (await books.reload(invoice)).status == "paid"
    await dispute(books, account, 100)
    await receive(books, account, 100, "stripe 2")
    await books.use(account, day(2, MONTH.next), input_tokens=100_000_000)
    second = await books.close(account, MONTH.next)
    assert (second.status, second.outstanding) == ("open", D(100))


async def test_a_month_in_which_more_was_given_back_than_used_pays_the_one_before(books: Books) -> None:
    account, invoice = await owing(books, 100)
    await give_back_usage(books, account, 30, day(1, MONTH.next))
    second = await books.close(account, MONTH.next)
    assert second.due == -30
    await assign_payments(books.database, account.organization_id, "USD")
    assert (await books.reload(invoice)).outstanding == 70
    paid, _ = await pay_for(books, invoice, "70")
    assert paid.status == "paid"
    assert "receivable" not in await books.accounts(account)


DISPUTE: Any = {"currency": "USD", "kind": "dispute", "account": "disputed"}


async def dispute(books: Books, account: Account, dollars: int) -> None:
    async with books.database.meter_transaction() as session:
        await withdraw(session, account.organization_id, amount=D(dollars), reference="d1", **DISPUTE)


async def receive(books: Books, account: Account, dollars: int, reference: str) -> None:
    async with books.database.meter_transaction() as session:
        await top_up(
            session,
            organization_id=account.organization_id,
            amount=D(dollars),
            currency="USD",
            reference=reference,
        )
    await assign_payments(books.database, account.organization_id, "USD")


async def give_back_usage(books: Books, account: Account, dollars: int, at: datetime) -> None:
    """As a credit of answers that nobody got, which the line had paid for."""
    async with books.database.meter_transaction() as session:
        session.add(
            UsageHour(
                organization_id=account.organization_id,
                hour=at,
                project_id=account.project_id,
                api_key_id=account.key_id,
                model_id=account.model_id,
                currency="USD",
                requests=0,
                input_tokens=-dollars * 1_000_000,
                cached_input_tokens=0,
                output_tokens=0,
                amount=D(-dollars),
                input_amount=D(-dollars),
                cached_input_amount=D(0),
            )
        )
        session.add(
            LedgerTransfer(
                id=new_id(),
                organization_id=account.organization_id,
                request_id=new_id(),
                kind="adjustment",
                debit_account=f"revenue:{account.model_id}",
                credit_account="receivable",
                amount=D(dollars),
                currency="USD",
                created_at=at,
            )
        )
        await add_to_balance(session, account.organization_id, amount=D(dollars), currency="USD")
