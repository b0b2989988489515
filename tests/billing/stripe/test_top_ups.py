"""Top-ups by Checkout: credited once, with what our row says, when Stripe says that they are paid."""

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from farebox.billing.errors import InvalidAmount
from farebox.billing.stripe.errors import KeyReused
from farebox.billing.stripe.settling import follow_top_up
from tests.billing.stripe.shop import Shop
from tests.core.mailbox import Mailbox, text_of


async def test_what_is_paid_at_checkout_is_credited_with_its_fee_beside_it(shop: Shop) -> None:
    row = await shop.order("25")
    assert await shop.balance() == 0
    assert shop.pay(row) is None
    await shop.work()
    row = await shop.fresh(row)
    assert (row.state, row.tax, row.fee) == ("paid", Decimal(0), Decimal("1.03"))
    assert await shop.balance() == 25
    assert await shop.accounts() == {
        "prepaid": 25,
        "cash": Decimal("-25") + Decimal("1.03"),
        "processor_fees": Decimal("-1.03"),
    }


async def test_two_clicks_make_one_session(shop: Shop) -> None:
    """The fault of memories #374."""
    first, second = await asyncio.gather(shop.order("25"), shop.order("25"))
    third = await shop.order("25")
    assert {first.id, second.id, third.id} == {first.id}
    assert first.session_id == second.session_id == third.session_id
    made = [each for each in shop.control.things("checkout.session") if each["id"] == first.session_id]
    assert len(made) == 1
    assert first.url == made[0]["url"]


async def test_a_clients_key_gets_the_same_top_up_and_no_other(shop: Shop) -> None:
    first, again = await shop.order("25", key="click-1"), await shop.order("25", key="click-1")
    other = await shop.order("25", key="click-2")
    assert (again.id, again.session_id) == (first.id, first.session_id)
    assert other.id != first.id
    with pytest.raises(KeyReused):
        await shop.order("30", key="click-1")


async def test_another_amount_is_another_session(shop: Shop) -> None:
    assert (await shop.order("25")).session_id != (await shop.order("26")).session_id


@pytest.mark.parametrize("amount", ["4.99", "10000.01", "0", "-5", "25.001", "NaN"])
async def test_amounts_out_of_bounds_are_refused(shop: Shop, amount: str) -> None:
    with pytest.raises(InvalidAmount):
        await shop.order(amount)


async def test_an_answer_that_was_lost_makes_no_second_session(shop: Shop) -> None:
    """Stripe did the work, and this process heard nothing of it: the next click gets the same session."""
    shop.control.fail("lost_answer", method="POST", path="/v1/checkout/sessions")
    with pytest.raises(Exception, match="payment processor cannot be reached"):
        await shop.order("25")
    row = await shop.order("25")
    made = [
        each
        for each in shop.control.things("checkout.session")
        if each["metadata"].get("farebox_top_up") == row.id.hex
    ]
    assert [each["id"] for each in made] == [row.session_id]


async def test_our_rows_amount_is_credited_and_never_what_was_paid_in_all(shop: Shop) -> None:
    shop.settings = _with_tax(shop)
    row = await shop.paid("25")
    assert row.tax == Decimal("2.5")
    assert await shop.balance() == 25
    held = await shop.accounts()
    assert (held["tax"], held["prepaid"]) == (Decimal("2.5"), Decimal(25))
    assert held["cash"] + held["processor_fees"] == Decimal("-27.5")


async def test_what_is_paid_later_is_credited_when_the_bank_has_paid(shop: Shop) -> None:
    row = await shop.order("25")
    shop.pay(row, method="us_bank_account")
    await shop.work()
    assert (await shop.fresh(row)).state == "processing"
    assert await shop.balance() == 0
    shop.control.settle(_intent(shop, row.session_id))
    await shop.work()
    assert (await shop.fresh(row)).state == "paid"
    assert await shop.balance() == 25


async def test_a_payment_that_fails_later_credits_nothing_and_its_payer_is_told(
    shop: Shop, mailbox: Mailbox
) -> None:
    """The fault of lago-api PR 5947: credit that was granted before the money came, and nobody told."""
    row = await shop.order("25")
    shop.pay(row, method="us_bank_account")
    await shop.work()
    shop.control.settle(_intent(shop, row.session_id), succeeded=False)
    await shop.work()
    assert (await shop.fresh(row)).state == "failed"
    assert await shop.balance() == 0
    (told,) = mailbox.of(shop.tenant.email)
    assert told["Subject"] == "Your payment to Farebox has failed"
    assert "25.00 USD" in text_of(told)


@pytest.mark.parametrize("status", ["requires_action", "requires_confirmation", "succeeded"])
async def test_a_payment_under_way_is_not_told_as_failed(shop: Shop, mailbox: Mailbox, status: str) -> None:
    """A transfer that its payer has yet to make, or one that arrives between two questions to Stripe."""
    shop.control.hold_events()
    row = await shop.order("25")
    shop.pay(row, method="us_bank_account")
    world = shop.stripe.app.world
    intent = world.books.get("payment_intent", _intent(shop, row.session_id))
    intent["status"], before = status, intent["status"]
    assert (await follow_top_up(shop.database, shop.account, row)).state == "processing"
    intent["status"] = before
    shop.control.settle(intent["id"])
    shop.control.release_events()
    await shop.work()
    assert ((await shop.fresh(row)).state, await shop.balance()) == ("paid", Decimal(25))
    assert mailbox.of(shop.tenant.email) == []


async def test_a_declined_card_leaves_the_page_open(shop: Shop) -> None:
    row = await shop.order("25")
    assert "declined" in str(shop.pay(row, card="4000000000000002"))
    await shop.work()
    assert (await shop.fresh(row)).state == "open"
    assert shop.pay(row) is None
    await shop.work()
    assert await shop.balance() == 25


async def test_a_session_that_expires_is_over_and_the_next_click_makes_another(shop: Shop) -> None:
    row = await shop.order("25")
    shop.stripe.client().v1.checkout.sessions.expire(str(row.session_id))
    await shop.work()
    assert (await shop.fresh(row)).state == "expired"
    assert (await shop.order("25")).id != row.id
    assert await shop.balance() == 0


async def test_who_returns_before_the_webhook_is_credited_at_once_and_once(shop: Shop) -> None:
    shop.control.hold_events()
    row = await shop.order("25")
    shop.pay(row)
    await follow_top_up(shop.database, shop.account, row)
    assert await shop.balance() == 25
    shop.control.release_events()
    await shop.work()
    assert await shop.balance() == 25


async def test_a_top_up_pays_off_what_is_owed_first(shop: Shop) -> None:
    row = await shop.paid("25")
    shop.control.dispute(str(row.payment_intent))
    await shop.work()
    await shop.paid("10")
    assert await shop.balance() == 10


async def test_another_amount_than_ordered_is_not_credited_but_looked_at(shop: Shop) -> None:
    row = await shop.order("25")
    world = shop.stripe.app.world
    session = world.books.get("checkout.session", str(row.session_id))
    session["amount_subtotal"] = 100
    shop.pay(row)
    await shop.work()
    assert await shop.balance() == 0
    dead = [event for event in await shop.events(row.session_id) if event.state == "dead"]
    assert "100 minor units of USD were paid" in str(dead[0].note)


def _intent(shop: Shop, session_id: str | None) -> str:
    session = shop.control.thing(str(session_id))
    assert session is not None
    return str(session["payment_intent"])


def _with_tax(shop: Shop) -> Any:
    return msgspec.structs.replace(shop.settings, stripe_tax=True)
