"""A month closed: an invoice for those with a credit line, a statement for those who pay ahead."""

from datetime import timedelta
from decimal import Decimal

import asyncpg
import pytest

from farebox.billing.invoices.errors import BooksDisagree, IssuerIncomplete, MonthOpen
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.closing import close_month
from farebox.billing.invoices.months.drafting import document_of, draft
from farebox.billing.invoices.months.month import parse_month
from farebox.billing.months import month_of
from farebox.core.settings import Settings
from farebox.metering.meter import Meter
from farebox.tenants.organizations import create_project
from tests.billing.clock import Clock
from tests.billing.invoices.books import MONTH, Books, day, document
from tests.metering.factories import open_account, used
from tests.metering.outages import expire_handover

D = Decimal


async def test_an_invoice_makes_the_receivable_what_it_says(books: Books) -> None:
    account = await books.customer(line=1000)
    for number in range(1, 8):
        # 33 tokens at 1, 0.5 and 2 USD a million: fractions of a cent in each class.
        await books.use(account, day(number), input_tokens=3_333, cached_input_tokens=1, output_tokens=4_001)
    exact = await books.receivable(account)
    invoice = await books.close(account)
    said = document(invoice)
    assert (said.kind, invoice.status) == ("invoice", "open")
    assert [(line.quantity, line.unit_price, line.exact_amount, line.amount) for line in said.lines] == [
        ("0.023331", "1.00", "0.023331", "0.02"),
        ("0.000007", "0.50", "0.0000035", "0.00"),
        ("0.028007", "2.00", "0.056014", "0.06"),
    ]
    assert (said.exact_total, said.total, said.amount_due) == ("0.0793485", "0.08", "0.08")
    assert exact == D("0.0793485")
    held = await books.accounts(account)
    assert (-held["receivable"], held["rounding"]) == (D("0.08"), D("0.0006515"))


async def test_rounding_down_is_the_operators_loss(books: Books) -> None:
    account = await books.customer(line=1000)
    await books.use(account, day(1), input_tokens=1_004_999)
    invoice = await books.close(account)
    assert invoice.due == await books.receivable(account) == D("1.00")
    assert (await books.accounts(account))["rounding"] == D("-0.004999")


async def test_a_statement_tells_how_the_balance_moved_and_leaves_the_ledger_alone(books: Books) -> None:
    account = await books.customer()
    before = parse_month("2025-02")
    await books.pay_in(account, "7", day(3, before))
    await books.use(account, day(9, before), input_tokens=2_000_001)
    await books.pay_in(account, "20", day(1))
    await books.give(account, "5", day(2))
    await books.use(account, day(3), input_tokens=6_000_003)
    await books.charge_fee(account, "3", day(4))
    await books.use(account, day(1, MONTH.next), input_tokens=1_000_000)
    held = await books.accounts(account)
    invoice = await books.close(account)
    assert await books.accounts(account) == held
    said = document(invoice)
    assert (said.kind, invoice.status, said.amount_due, said.payment) == ("statement", "final", "0.00", None)
    assert said.balance is not None
    assert {name: getattr(said.balance, name) for name in said.balance.__struct_fields__} == {
        "opening": "4.999999",
        "top_ups": "20.00",
        "grants": "5.00",
        "expiries": "0.00",
        "usage": "-6.000003",
        "fees": "-3.00",
        "other": "0.00",
        "closing": "20.999996",
    }
    assert [line.description for line in said.lines] == ["demo, input_tokens", "team plan"]
    assert said.total == "9.00"


async def test_the_next_statement_opens_where_the_last_one_closed(books: Books) -> None:
    account = await books.customer()
    await books.pay_in(account, "20", day(1))
    await books.use(account, day(3), input_tokens=6_000_003)
    await books.use(account, day(3, MONTH.next), output_tokens=500_000)
    first, second = await books.close(account), await books.close(account, MONTH.next)
    balances = [document(each).balance for each in (first, second)]
    assert [(each.opening, each.closing) for each in balances if each] == [
        ("0.00", "13.999997"),
        ("13.999997", "12.999997"),
    ]
    assert second.closing_balance == sum(
        amount for name, amount in (await books.accounts(account)).items() if name == "prepaid"
    )


async def test_the_balance_pays_its_part_of_an_invoice(books: Books) -> None:
    account = await books.customer(line=100)
    await books.give(account, "1", day(1))
    await books.pay_in(account, "2", day(1))
    await books.use(account, day(2), input_tokens=4_000_007)
    await books.charge_fee(account, "10", day(3))
    said = document(await books.close(account))
    assert (said.total, said.paid_from_balance, said.amount_due) == ("14.00", "3.00", "11.00")
    assert await books.receivable(account) == 11


async def test_a_fee_that_two_purses_paid_is_one_line(books: Books) -> None:
    """Rounded by itself, each part would be half a cent more."""
    account = await books.customer(line=100)
    await books.pay_in(account, "1", day(1))
    await books.use(account, day(2), input_tokens=15_000)
    await books.charge_fee(account, "10", day(3))
    said = document(await books.close(account))
    assert [(line.description, line.exact_amount, line.amount) for line in said.lines] == [
        ("demo, input_tokens", "0.015", "0.02"),
        ("team plan", "10.00", "10.00"),
    ]
    assert (said.total, said.paid_from_balance, said.amount_due) == ("10.02", "1.00", "9.02")
    assert await books.receivable(account) == D("9.02")


async def test_what_is_sold_by_the_piece_has_a_line(books: Books) -> None:
    account = await books.customer(line=100)
    amount = await books.use(account, day(2), input_tokens=1_000_000)
    owner = await asyncpg.connect(books.url)
    await owner.execute(
        "UPDATE usage_hour SET items = 2500, input_tokens = 0, input_amount = 0, item_amount = amount"
        " WHERE organization_id = $1",
        account.organization_id,
    )
    await owner.close()
    (line,) = document(await books.close(account)).lines
    assert (line.usage_class, line.quantity, line.unit, line.unit_price) == (
        "items", "0.0025", "1M items", "400.00",
    )  # fmt: skip
    assert D(line.amount) == amount


async def test_a_month_that_the_balance_paid_leaves_nothing_due(books: Books) -> None:
    """However its lines were rounded: here the total is a cent, of which six tenths were used."""
    account = await books.customer(line=100)
    await books.pay_in(account, "2", day(1))
    await books.use(account, day(2), input_tokens=6_000)
    invoice = await books.close(account)
    assert (document(invoice).total, invoice.due, invoice.status) == ("0.01", D(0), "paid")
    assert await books.accounts(account) == {"cash": -2, "prepaid": D("1.994"), "revenue:demo": D("0.006")}


async def test_a_price_that_changed_in_the_month_is_not_shown(books: Books) -> None:
    account = await books.customer(line=100)
    await books.use(account, day(2), input_tokens=1_000_000, output_tokens=7, price=("1", "0", "2"))
    await books.use(account, day(3), input_tokens=1_000_000, output_tokens=7, price=("3", "0", "2"))
    said = document(await books.close(account))
    assert [(line.unit_price, line.amount) for line in said.lines] == [(None, "4.00"), ("2.00", "0.00")]


async def test_every_project_and_model_has_its_lines(books: Books) -> None:
    account = await books.customer(line=100)
    async with books.database.transaction(organization_id=account.organization_id) as session:
        other = await create_project(
            session, organization_id=account.organization_id, name="Archive", actor_id=None
        )
    await books.use(account, day(2), input_tokens=1_000_000, model="b")
    await books.use(account, day(2), input_tokens=1_000_000, model="a")
    await books.use(account, day(2), input_tokens=1_000_000, model="a", project_id=other.id)
    said = document(await books.close(account))
    assert [(line.project, line.model) for line in said.lines] == [
        ("Archive", "a"),
        ("Default", "a"),
        ("Default", "b"),
    ]


async def test_yen_have_no_cents(books: Books) -> None:
    account = await books.customer()
    await books.use(account, day(2), currency="JPY", input_tokens=2_500_000, output_tokens=750_001)
    said = document(await books.close(account, currency="JPY"))
    assert [(line.exact_amount, line.amount) for line in said.lines] == [("2.5", "2"), ("1.500002", "2")]
    assert said.total == "4"


async def test_what_is_not_over_is_not_closed(books: Books, clock: Clock) -> None:
    account = await books.customer(line=100)
    await books.use(account, day(2), input_tokens=1_000_000)
    clock.now = MONTH.end - timedelta(seconds=1)
    with pytest.raises(MonthOpen, match="2025-03 has not ended"):
        await books.close(account)
    clock.now = MONTH.end + timedelta(seconds=3599)
    with pytest.raises(MonthOpen, match=r"ended less than 1:00:00 ago"):
        await books.close(account)
    clock.now = MONTH.end + timedelta(seconds=3600)
    invoice = await books.close(account)
    assert (document(invoice).issued_on, document(invoice).due_on) == ("2025-04-01", "2025-05-01")


async def test_nothing_is_numbered_before_the_issuer_is_named(books: Books) -> None:
    account = await books.customer(line=100)
    await books.use(account, day(2), input_tokens=1_000_000)
    with pytest.raises(IssuerIncomplete, match="FAREBOX_ISSUER_NAME and FAREBOX_ISSUER_ADDRESS"):
        async with books.database.meter_transaction() as session:
            await close_month(session, account.organization_id, MONTH, "USD", Settings())


@pytest.mark.parametrize(
    ("table", "column"), [("usage_hour", "amount"), ("ledger_transfer", "amount"), ("meter_scope", "balance")]
)
async def test_books_that_disagree_are_not_closed(books: Books, table: str, column: str) -> None:
    account = await books.customer()
    await books.pay_in(account, "5", day(1))
    await books.use(account, day(2), input_tokens=1_000_000)
    owner = await asyncpg.connect(books.url)
    only = " AND kind = 'top_up'" if table == "ledger_transfer" else ""
    await owner.execute(
        f"UPDATE {table} SET {column} = {column} + 0.000000000001 WHERE organization_id = $1{only}",  # noqa: S608
        account.organization_id,
    )
    await owner.close()
    with pytest.raises(BooksDisagree, match=r"differs by -?0\.000000000001 USD"):
        await books.close(account)


async def test_closing_again_gives_the_same_document(books: Books) -> None:
    account = await books.customer(line=100)
    await books.use(account, day(2), input_tokens=1_005_000)
    first = await books.close(account)
    held = await books.accounts(account)
    again = await books.close(account)
    assert (again.id, again.document) == (first.id, first.document)
    assert await books.accounts(account) == held


async def test_a_preview_says_what_the_document_will_say(books: Books) -> None:
    account = await books.customer(line=100)
    await books.use(account, day(2), input_tokens=1_005_000)
    async with books.database.transaction(organization_id=account.organization_id) as session:
        drafted = await draft(session, account.organization_id, MONTH, "USD")
        preview = await document_of(
            session, account.organization_id, drafted, books.seller, credit_line=D(100)
        )
    closed = document(await books.close(account))
    assert preview.number is None
    assert preview.lines == closed.lines
    assert (preview.kind, preview.total, preview.amount_due) == ("invoice", closed.total, closed.amount_due)


async def test_the_meters_own_books_close_too(books: Books, meter: Meter, clock: Clock) -> None:
    """Through admission and settlement; one answer is credited, which prepaid money had paid."""
    account = await open_account(books.database, balance="2", price=("1000000", "0", "0"))
    await books.lend(account, 50)
    lost = await meter.admit(account.admission(prompt=2, output=0))
    await meter.settle(lost, used(2, 0, to_be_handed_over=True))
    meter.hand_over(lost, reached=False)
    await meter.turn()
    granted = await meter.admit(account.admission(prompt=7, output=0))
    await meter.settle(granted, used(7, 0))
    await expire_handover(books.database, lost.request_id)
    await meter.turn()
    held = await books.accounts(account)
    assert (held.get("prepaid"), held["receivable"]) == (None, -D(5))
    month = month_of(clock.now)
    clock.now = month.end + timedelta(hours=2)
    invoice: Invoice = await books.close(account, month)
    assert (invoice.due, invoice.paid, invoice.outstanding) == (D(5), D(0), D(5))
    assert await books.accounts(account) == {
        "cash": -2,
        "receivable": -5,
        f"revenue:{account.model_id}": 7,
    }
