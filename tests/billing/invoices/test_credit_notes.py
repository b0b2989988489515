"""Credit notes: never more than what is left, and the ledger follows."""

from decimal import Decimal
from random import Random

import pytest

from farebox.billing.invoices.credit_notes import Part, credit
from farebox.billing.invoices.errors import NotCreditable, UnknownInvoice
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.payments import pay
from tests.billing.invoices.books import MONTH, Books, day, document
from tests.metering.factories import Account

D = Decimal


async def take_back(
    books: Books, invoice: Invoice, reason: str = "mistake", part: Part | None = None
) -> Invoice:
    async with books.database.meter_transaction() as session:
        return await credit(session, invoice.number, reason=reason, settings=books.seller, part=part)


async def invoiced(books: Books) -> tuple[Account, Invoice]:
    """Two lines: 3.00 for input, 8.00 for output."""
    account = await books.customer(line=1000)
    await books.use(account, day(2), input_tokens=3_000_000, output_tokens=4_000_000)
    return account, await books.close(account)


async def test_a_whole_credit_voids_an_invoice_that_nobody_paid(books: Books) -> None:
    account, invoice = await invoiced(books)
    note = await take_back(books, invoice)
    said = document(note)
    assert (said.kind, said.refers_to, said.reason) == ("credit_note", invoice.number, "mistake")
    assert (said.total, [line.amount for line in said.lines]) == ("11.00", ["3.00", "8.00"])
    after = await books.reload(invoice)
    assert (after.status, after.outstanding, after.credited, after.refunded) == ("void", D(0), D(11), D(0))
    assert after.document == invoice.document
    assert await books.accounts(account) == {}


async def test_the_same_reason_gives_the_same_note(books: Books) -> None:
    account, invoice = await invoiced(books)
    notes = [await take_back(books, invoice, part=Part(1, D("1.25"))) for _ in range(2)]
    assert notes[0].id == notes[1].id
    assert await books.receivable(account) == D("9.75")
    assert (await take_back(books, invoice, "another", Part(1, D("1.25")))).id != notes[0].id


async def test_a_part_of_a_line_leaves_the_rest_to_be_paid(books: Books) -> None:
    account, invoice = await invoiced(books)
    note = await take_back(books, invoice, part=Part(2, D("2.50")))
    (line,) = document(note).lines
    assert (line.quantity, line.unit_price, line.amount) == ("1", "2.50", "2.50")
    after = await books.reload(invoice)
    assert (after.status, after.outstanding) == ("open", D("8.50"))
    assert await books.accounts(account) == {"receivable": D("-8.50"), "revenue:demo": D("8.50")}
    rest = await take_back(books, invoice, "the rest")
    assert [line.amount for line in document(rest).lines] == ["3.00", "5.50"]
    assert (await books.reload(invoice)).status == "void"


async def test_what_was_paid_comes_back_as_prepaid_money(books: Books) -> None:
    account, invoice = await invoiced(books)
    async with books.database.meter_transaction() as session:
        await pay(session, invoice.number, amount=D(9), reference="bank")
    await take_back(books, invoice, part=Part(2, D(4)))
    after = await books.reload(invoice)
    assert (after.status, after.outstanding, after.refunded) == ("paid", D(0), D(2))
    assert await books.accounts(account) == {"cash": -9, "prepaid": 2, "revenue:demo": 7}
    await take_back(books, invoice, "all of it")
    after = await books.reload(invoice)
    assert (after.status, after.credited, after.refunded) == ("void", D(11), D(9))
    assert await books.accounts(account) == {"cash": -9, "prepaid": 9}


async def test_money_that_comes_back_pays_what_else_is_owed(books: Books) -> None:
    account, invoice = await invoiced(books)
    async with books.database.meter_transaction() as session:
        await pay(session, invoice.number, amount=D(11), reference="bank")
    await books.use(account, day(2, MONTH.next), input_tokens=5_000_000)
    other = await books.close(account, MONTH.next)
    await take_back(books, invoice, part=Part(1))
    assert (await books.reload(other)).outstanding == 2
    assert await books.receivable(account) == 2


async def test_what_the_balance_paid_is_not_credited(books: Books) -> None:
    """Given credit would come back as money."""
    account = await books.customer(line=1000)
    await books.give(account, "9", day(1))
    await books.use(account, day(2), input_tokens=3_000_000, output_tokens=4_000_000)
    invoice = await books.close(account)
    assert (invoice.total, invoice.due) == (D(11), D(2))
    with pytest.raises(NotCreditable, match=r"No more than 2\.00 is left"):
        await take_back(books, invoice, part=Part(2, D(3)))
    note = await take_back(books, invoice)
    assert note.total == 2
    assert await books.accounts(account) == {"promotion": -9, "revenue:demo": 9}


@pytest.mark.parametrize(
    "part",
    [Part(1, D("3.01")), Part(1, D(0)), Part(1, D(-1)), Part(1, D("0.001")), Part(3, D(1)), Part(0), Part(3)],
)
async def test_more_than_is_left_or_what_is_no_amount_is_refused(books: Books, part: Part) -> None:
    account, invoice = await invoiced(books)
    with pytest.raises(NotCreditable):
        await take_back(books, invoice, part=part)
    assert await books.receivable(account) == 11


async def test_nothing_is_left_of_what_was_credited(books: Books) -> None:
    _, invoice = await invoiced(books)
    await take_back(books, invoice, part=Part(1))
    for part in (Part(1), Part(1, D("0.01"))):
        with pytest.raises(NotCreditable):
            await take_back(books, invoice, "once more", part)
    await take_back(books, invoice, "the rest")
    with pytest.raises(NotCreditable):
        await take_back(books, invoice, "once more")


async def test_a_statement_and_a_credit_note_cannot_be_credited(books: Books) -> None:
    account = await books.customer()
    await books.pay_in(account, "3", day(1))
    _, invoice = await invoiced(books)
    for each in (await books.close(account), await take_back(books, invoice)):
        with pytest.raises(NotCreditable, match="is no invoice"):
            await take_back(books, each)


async def test_a_number_that_nobody_has(books: Books) -> None:
    with pytest.raises(UnknownInvoice):
        async with books.database.meter_transaction() as session:
            await credit(session, "INV-1999-000001", reason="x", settings=books.seller)


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_credited_and_paid_never_exceeds_the_invoice(books: Books, seed: int) -> None:
    random = Random(seed)
    account, invoice = await invoiced(books)
    left = {1: 300, 2: 800}
    paid = forgiven = refunded = 0
    for step in range(12):
        cents = random.randint(1, 500)
        open_ = 1100 - paid - forgiven
        if random.random() < 0.4 and open_:
            async with books.database.meter_transaction() as session:
                await pay(session, invoice.number, amount=D(cents) / 100, reference=f"{seed} {step}")
            paid += min(cents, open_)
            refunded += max(cents - open_, 0)
        else:
            line = random.choice((1, 2))
            if cents > left[line]:
                with pytest.raises(NotCreditable):
                    await take_back(books, invoice, f"{step}", Part(line, D(cents) / 100))
                continue
            await take_back(books, invoice, f"{step}", Part(line, D(cents) / 100))
            left[line] -= cents
            forgiven += min(cents, open_)
            refunded += max(cents - open_, 0)
        held = await books.accounts(account)
        assert -held.get("receivable", D(0)) == D(1100 - paid - forgiven) / 100
        assert held.get("prepaid", D(0)) == D(refunded) / 100
        assert held.get("revenue:demo", D(0)) == D(sum(left.values())) / 100
        if paid + forgiven == 1100 and sum(left.values()) == 0:
            assert (await books.reload(invoice)).status == "void"
            return
