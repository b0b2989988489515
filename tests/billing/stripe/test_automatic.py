"""Automatic top-up: below a threshold, up to a ceiling, and nobody is charged twice or left in the dark."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from farebox.billing.errors import InvalidAmount
from farebox.billing.models_stripe import AutoTopUp, TopUp
from farebox.billing.stripe.automatic.decisions import find_auto_top_up, save_auto_top_up, spent_this_month
from farebox.billing.stripe.checkout import open_checkout
from farebox.billing.stripe.errors import UnknownTopUp
from farebox.billing.stripe.top_ups import bind
from tests.billing.clock import Clock
from tests.billing.stripe.shop import Shop
from tests.billing.stripe.test_reversals import refund, refunds, spend
from tests.core.mailbox import Mailbox, text_of

STEPS = [
    ("GET", "/v1/customers/*"),
    ("GET", "/v1/invoices"),
    ("POST", "/v1/invoices"),
    ("POST", "/v1/invoiceitems"),
    ("POST", "/v1/invoices/*/finalize"),
    ("GET", "/v1/invoices/*"),
    ("POST", "/v1/invoices/*/pay"),
]


async def save(shop: Shop, **changes: Any) -> AutoTopUp:
    amounts = {"threshold": "10", "amount": "20", "monthly_ceiling": "100"} | changes
    enabled = amounts.pop("enabled", True)
    async with shop.database.meter_transaction() as session:
        return await save_auto_top_up(
            session,
            shop.organization_id,
            shop.settings,
            enabled=enabled,
            **{name: Decimal(amount) for name, amount in amounts.items()},
        )


async def saved(shop: Shop) -> AutoTopUp:
    async with shop.database.meter_transaction() as session:
        row = await find_auto_top_up(session, shop.organization_id)
    assert row is not None
    return row


async def ready(shop: Shop, **changes: Any) -> None:
    """25 dollars, of which 20 are spent; the payment method is kept."""
    await shop.paid("25", keeps_method=True)
    await save(shop, **changes)
    await spend(shop, "20")


async def watch(shop: Shop) -> None:
    await shop.worker().watch()
    await shop.work()


async def automatic(shop: Shop) -> list[TopUp]:
    return [row for row in await shop.top_ups() if row.kind == "automatic"]


def invoices(shop: Shop, row: TopUp) -> list[Any]:
    found = shop.control.things("invoice")
    return [each for each in found if each["metadata"].get("farebox_top_up") == row.id.hex]


async def test_a_low_balance_is_topped_up_by_an_invoice(shop: Shop) -> None:
    await ready(shop)
    await watch(shop)
    (row,) = await automatic(shop)
    assert (row.state, await shop.balance()) == ("paid", Decimal(25))
    (invoice,) = invoices(shop, row)
    assert (invoice["status"], invoice["total"], invoice["auto_advance"]) == ("paid", 2000, False)
    assert row.fee == Decimal("0.88")


async def test_enough_is_enough(shop: Shop) -> None:
    await ready(shop, threshold="5")
    await watch(shop)
    await ready(shop, enabled=False)
    await watch(shop)
    assert await automatic(shop) == []


async def test_one_is_under_way_at_a_time(shop: Shop) -> None:
    await ready(shop)
    await asyncio.gather(*(shop.worker().watch() for _ in range(5)))
    await shop.worker().watch()
    assert [row.state for row in await automatic(shop)] == ["open"]
    await shop.work()
    assert await shop.balance() == 25


async def test_a_new_month_has_a_new_ceiling(shop: Shop, clock: Clock) -> None:
    await ready(shop, monthly_ceiling="20")
    await watch(shop)
    await spend(shop, "24")
    await watch(shop)
    assert len(await automatic(shop)) == 1
    clock.advance(days=32)
    async with shop.database.meter_transaction() as session:
        assert await spent_this_month(session, shop.organization_id) == 0
    await watch(shop)
    assert len(await automatic(shop)) == 2


async def test_a_bank_that_asks_is_no_failure_and_its_customer_gets_the_page(
    shop: Shop, mailbox: Mailbox
) -> None:
    await ready(shop)
    shop.control.require_authentication(off_session_only=True)
    await watch(shop)
    (row,) = await automatic(shop)
    assert (row.state, (await saved(shop)).paused) == ("requires_action", "requires_action")
    (told,) = mailbox.of(shop.tenant.email)
    (invoice,) = invoices(shop, row)
    assert invoice["hosted_invoice_url"] in text_of(told)
    await watch(shop)
    assert len(await automatic(shop)) == 1
    shop.control.authenticate(_intent_of(shop, invoice["id"]))
    await shop.work()
    assert ((await shop.fresh(row)).state, (await saved(shop)).paused) == ("paid", None)
    assert await shop.balance() == 25


async def test_who_does_not_confirm_is_not_charged_later(shop: Shop, clock: Clock) -> None:
    await ready(shop)
    shop.control.require_authentication(off_session_only=True)
    await watch(shop)
    (row,) = await automatic(shop)
    clock.advance(days=4)
    await shop.worker().sweep()
    await shop.work()
    assert (await shop.fresh(row)).state == "failed"
    assert invoices(shop, row)[0]["status"] == "void"


async def test_a_decline_is_told_tried_later_and_paused_after_three(
    shop: Shop, mailbox: Mailbox, clock: Clock
) -> None:
    await ready(shop)
    shop.control.decline(off_session_only=True, times=3)
    subjects = []
    for hours in (1, 2, 4):
        await watch(shop)
        await watch(shop)
        subjects = [message["Subject"] for message in mailbox.of(shop.tenant.email)]
        clock.advance(hours=hours)
    assert subjects == [*["Your automatic top-up was declined"] * 2, "Your automatic top-up is paused"]
    rows = await automatic(shop)
    assert [row.state for row in rows] == ["failed"] * 3
    assert {each["status"] for row in rows for each in invoices(shop, row)} == {"void"}
    assert (await saved(shop)).paused == "declined"
    await watch(shop)
    assert len(await automatic(shop)) == 3
    await save(shop)
    await watch(shop)
    assert await shop.balance() == 25


async def test_without_a_method_nothing_is_tried(shop: Shop, mailbox: Mailbox) -> None:
    await shop.paid("5")
    await save(shop)
    await watch(shop)
    assert [row.state for row in await automatic(shop)] == ["failed"]
    assert (await saved(shop)).paused == "no_method"
    (told,) = mailbox.of(shop.tenant.email)
    assert "no payment method" in text_of(told)


async def test_a_method_that_its_owner_took_away_is_not_charged(shop: Shop) -> None:
    await ready(shop)
    client = shop.stripe.client()
    customer = [each for each in shop.control.things("payment_method") if each["customer"]][-1]
    client.v1.payment_methods.detach(customer["id"])
    await shop.work()
    await watch(shop)
    assert (await saved(shop)).paused == "no_method"


@pytest.mark.parametrize("step", STEPS, ids=lambda step: " ".join(step))
@pytest.mark.parametrize("kind", ["lost_answer", "server_error"])
async def test_a_crash_after_any_step_pays_once(shop: Shop, step: tuple[str, str], kind: Any) -> None:
    """Stripe has done the step, or has not, and this process knows nothing of it; a day later it goes on."""
    await ready(shop)
    method, path = step
    shop.control.fail(kind, method=method, path=path)
    await watch(shop)
    shop.control.advance(25 * 3600)  # Stripe knows the keys no more
    await shop.work_later()
    (row,) = await automatic(shop)
    assert (row.state, await shop.balance()) == ("paid", Decimal(25))
    assert [each["status"] for each in invoices(shop, row)] == ["paid"]
    assert invoices(shop, row)[0]["total"] == 2000


async def test_what_was_switched_off_meanwhile_is_not_collected(shop: Shop) -> None:
    await ready(shop)
    await shop.worker().watch()
    await save(shop, enabled=False)
    await shop.work()
    assert [row.state for row in await automatic(shop)] == ["expired"]
    assert await shop.balance() == 5


async def test_a_page_opens_for_no_automatic_top_up(shop: Shop) -> None:
    await ready(shop)
    await shop.worker().watch()
    (row,) = await automatic(shop)
    with pytest.raises(UnknownTopUp):
        await open_checkout(shop.database, shop.account, shop.settings, row)
    await shop.work()
    row = await shop.fresh(row)
    assert (row.state, row.session_id, await shop.balance()) == ("paid", None, Decimal(25))


async def test_an_automatic_top_up_is_what_its_invoice_is(shop: Shop) -> None:
    """Whatever session may be bound to it as well."""
    await ready(shop)
    await shop.worker().watch()
    (row,) = await automatic(shop)
    other = await shop.order("20")
    session_id = other.session_id
    async with shop.database.meter_transaction() as session:
        await bind(session, other.id, session_id=None)
        await bind(session, row.id, session_id=session_id)
    shop.stripe.client().v1.checkout.sessions.expire(str(session_id))
    await shop.work()
    assert ((await shop.fresh(row)).state, await shop.balance()) == ("paid", Decimal(25))


async def test_what_was_switched_off_after_its_invoice_was_made_is_not_charged(shop: Shop) -> None:
    await ready(shop)
    shop.control.fail("server_error", method="POST", path="/v1/invoices/*/pay")
    await watch(shop)
    await save(shop, enabled=False)
    await shop.work_later()
    (row,) = await automatic(shop)
    assert (row.state, await shop.balance()) == ("expired", Decimal(5))
    assert [each["status"] for each in invoices(shop, row)] == ["void"]


async def test_a_draft_of_what_was_switched_off_is_deleted(shop: Shop) -> None:
    await ready(shop)
    shop.control.fail("server_error", method="POST", path="/v1/invoiceitems")
    await watch(shop)
    await save(shop, enabled=False)
    shop.control.fail("lost_answer", method="DELETE", path="/v1/invoices/*")
    await shop.work_later()
    await shop.work_later()
    (row,) = await automatic(shop)
    assert (row.state, invoices(shop, row)) == ("expired", [])


@pytest.mark.parametrize("enabled", [True, False])
async def test_what_was_paid_before_it_was_switched_off_is_credited(shop: Shop, enabled: bool) -> None:
    await ready(shop)
    shop.control.hold_events()
    shop.control.fail("lost_answer", method="POST", path="/v1/invoices/*/pay")
    await watch(shop)
    await save(shop, enabled=enabled)
    await shop.work_later()
    (row,) = await automatic(shop)
    assert (row.state, await shop.balance()) == ("paid", Decimal(25))


async def test_what_stripe_refuses_is_given_up_and_told_and_holds_up_no_refund(
    shop: Shop, mailbox: Mailbox
) -> None:
    await ready(shop)
    (first,) = await shop.top_ups()
    shop.control.hold_events()
    _take_method_away(shop)
    await watch(shop)
    (row,) = await automatic(shop)
    assert (row.state, (await saved(shop)).paused) == ("failed", "declined")
    assert {each["status"] for each in invoices(shop, row)} <= {"void"}
    (told,) = mailbox.of(shop.tenant.email)
    assert "20.00 USD could not be charged" in text_of(told)
    assert await shop.waiting() == []
    await watch(shop)
    assert [each.id for each in await automatic(shop)] == [row.id]
    await refund(shop, first, "3")
    await shop.work()
    assert [each.state for each in await refunds(shop)] == ["succeeded"]


async def test_an_invoice_that_stripe_refuses_to_charge_is_void(shop: Shop) -> None:
    await ready(shop)
    shop.control.hold_events()
    shop.control.fail("server_error", method="POST", path="/v1/invoices/*/pay")
    await watch(shop)
    _take_method_away(shop)
    await shop.work_later()
    (row,) = await automatic(shop)
    assert (row.state, (await saved(shop)).paused) == ("failed", "declined")
    assert [each["status"] for each in invoices(shop, row)] == ["void"]


async def test_a_collection_that_waits_holds_up_no_refund(shop: Shop) -> None:
    await ready(shop)
    (first,) = await shop.top_ups()
    shop.control.fail("server_error", method="POST", path="/v1/invoices", times=100)
    await watch(shop)
    await refund(shop, first, "3")
    await shop.work()
    assert [each.state for each in await refunds(shop)] == ["succeeded"]
    assert [row.state for row in await automatic(shop)] == ["open"]


@pytest.mark.parametrize("told", [True, False])
async def test_a_bank_debit_that_fails_days_later_is_void_and_told(
    shop: Shop, mailbox: Mailbox, clock: Clock, told: bool
) -> None:
    await _ready_by_bank_debit(shop)
    await watch(shop)
    (row,) = await automatic(shop)
    assert row.state == "processing"
    if not told:
        shop.control.hold_events()
        clock.advance(days=8)
    shop.control.settle(_intent_of(shop, str(row.invoice_id)), succeeded=False)
    await shop.worker().sweep()
    await shop.work()
    assert ((await shop.fresh(row)).state, await shop.balance()) == ("failed", Decimal(5))
    assert [each["status"] for each in invoices(shop, row)] == ["void"]
    subjects = [message["Subject"] for message in mailbox.of(shop.tenant.email)]
    assert subjects == ["Your automatic top-up was declined"]
    await watch(shop)
    assert len(await automatic(shop)) == 1
    clock.advance(hours=2)
    await watch(shop)
    assert [each.state for each in await automatic(shop)] == ["failed", "processing"]


async def test_who_is_asked_by_their_bank_may_try_again(shop: Shop) -> None:
    """They are on the invoice's page: a first attempt that fails does not end it."""
    await ready(shop)
    shop.control.require_authentication(off_session_only=True)
    await watch(shop)
    (row,) = await automatic(shop)
    shop.control.authenticate(_intent_of(shop, str(row.invoice_id)), agreed=False)
    await shop.work()
    assert (await shop.fresh(row)).state == "requires_action"
    assert [each["status"] for each in invoices(shop, row)] == ["open"]


@pytest.mark.parametrize(
    "amounts", [{"amount": "4"}, {"monthly_ceiling": "19"}, {"threshold": "-1"}, {"threshold": "1.001"}]
)
async def test_settings_that_make_no_sense_are_refused(shop: Shop, amounts: dict[str, str]) -> None:
    with pytest.raises(InvalidAmount):
        await save(shop, **amounts)


async def _ready_by_bank_debit(shop: Shop) -> None:
    row = await shop.order("25", keeps_method=True)
    shop.pay(row, method="us_bank_account")
    session: Any = shop.control.thing(str(row.session_id))
    shop.control.settle(session["payment_intent"])
    await shop.work()
    await save(shop)
    await spend(shop, "20")


def _take_method_away(shop: Shop) -> None:
    method = [each for each in shop.control.things("payment_method") if each["customer"]][-1]
    shop.stripe.client().v1.payment_methods.detach(method["id"])


def _intent_of(shop: Shop, invoice: str) -> str:
    (payment,) = [each for each in shop.control.things("invoice_payment") if each["invoice"] == invoice]
    return str(payment["payment"]["payment_intent"])
