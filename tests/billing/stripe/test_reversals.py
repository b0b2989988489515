"""Refunds and disputes: the balance goes back with the money, once, in whatever order it is told."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from farebox.billing.errors import InvalidAmount
from farebox.billing.funds import pay
from farebox.billing.models_stripe import TopUp, TopUpDispute, TopUpRefund
from farebox.billing.stripe.reversals.refunds import order_refund
from farebox.core.ids import new_id
from tests.billing.stripe.shop import Shop


async def refund(shop: Shop, row: TopUp, amount: str | None = None) -> TopUpRefund:
    async with shop.database.meter_transaction() as session:
        return await order_refund(session, row.id, amount=None if amount is None else Decimal(amount))


async def refunds(shop: Shop) -> list[TopUpRefund]:
    async with shop.database.meter_transaction() as session:
        query = select(TopUpRefund).where(TopUpRefund.organization_id == shop.organization_id)
        return list(await session.scalars(query.order_by(TopUpRefund.created_at)))


async def dispute_state(shop: Shop) -> str | None:
    async with shop.database.meter_transaction() as session:
        query = select(TopUpDispute.state).where(TopUpDispute.organization_id == shop.organization_id)
        return await session.scalar(query)


async def spend(shop: Shop, amount: str) -> None:
    async with shop.database.meter_transaction() as session:
        assert await pay(
            session,
            shop.organization_id,
            amount=Decimal(amount),
            currency="USD",
            account="revenue:test",
            reference=f"spent {new_id()}",
        )


def at_stripe(shop: Shop, row: TopUp) -> list[Any]:
    return [each for each in shop.control.things("refund") if each["payment_intent"] == row.payment_intent]


async def test_what_is_refunded_leaves_the_balance_at_once_and_goes_out_once(shop: Shop) -> None:
    row = await shop.paid("25")
    await refund(shop, row, "10")
    assert await shop.balance() == 15
    await shop.work()
    (made,) = at_stripe(shop, row)
    assert (made["amount"], made["status"]) == (1000, "succeeded")
    assert [each.state for each in await refunds(shop)] == ["succeeded"]
    assert await shop.balance() == 15
    held = await shop.accounts()
    assert held["cash"] + held["processor_fees"] == -15
    assert "refunds" not in held


async def test_no_more_than_was_paid_goes_back_however_it_is_split(shop: Shop) -> None:
    row = await shop.paid("25")
    await refund(shop, row, "10")
    with pytest.raises(InvalidAmount, match=r"No more than 15\.00"):
        await refund(shop, row, "15.01")
    await refund(shop, row)
    with pytest.raises(InvalidAmount):
        await refund(shop, row, "0.01")
    await shop.work()
    assert sum(each["amount"] for each in at_stripe(shop, row)) == 2500
    assert await shop.balance() == 0


async def test_what_is_spent_is_not_refunded(shop: Shop) -> None:
    row = await shop.paid("25")
    await spend(shop, "20")
    with pytest.raises(InvalidAmount, match=r"No more than 5\.00"):
        await refund(shop, row)
    await refund(shop, row, "5")
    assert await shop.balance() == 0


async def test_what_is_not_paid_is_not_refunded(shop: Shop) -> None:
    row = await shop.order("25")
    with pytest.raises(InvalidAmount, match="open, not paid"):
        await refund(shop, row)


async def test_a_refund_made_at_stripe_may_take_the_balance_below_zero(shop: Shop) -> None:
    row = await shop.paid("25")
    await spend(shop, "20")
    shop.stripe.client().v1.refunds.create({"payment_intent": str(row.payment_intent)})
    await shop.work()
    assert await shop.balance() == -20
    held = await shop.accounts()
    assert held["receivable"] == -20
    assert "prepaid" not in held


async def test_a_refund_that_did_not_arrive_comes_back(shop: Shop) -> None:
    row = await shop.paid("25")
    await refund(shop, row, "10")
    await shop.work()
    (made,) = at_stripe(shop, row)
    shop.control.finish_refund(made["id"], failure="lost_or_stolen_card")
    await shop.work()
    assert [each.state for each in await refunds(shop)] == ["failed"]
    assert await shop.balance() == 25
    held = await shop.accounts()
    assert held["cash"] + held["processor_fees"] == -25
    await refund(shop, row)
    assert await shop.balance() == 0


async def test_a_refund_that_stripe_refuses_comes_back(shop: Shop) -> None:
    row = await shop.paid("25")
    shop.control.hold_events()
    shop.stripe.client().v1.refunds.create({"payment_intent": str(row.payment_intent)})
    await refund(shop, row)
    await shop.work()
    assert [each.state for each in await refunds(shop)] == ["failed"]
    shop.control.release_events()
    await shop.work()
    assert await shop.balance() == 0
    assert sum(each["amount"] for each in at_stripe(shop, row)) == 2500


async def test_two_refunds_that_stripe_refuses_both_come_back(shop: Shop) -> None:
    row = await shop.paid("25")
    shop.control.hold_events()
    for amount in ("5", "7"):
        await refund(shop, row, amount)
    shop.stripe.client().v1.refunds.create({"payment_intent": str(row.payment_intent)})
    await shop.work()
    assert [(each.credit, each.state) for each in await refunds(shop)] == [
        (Decimal(5), "failed"),
        (Decimal(7), "failed"),
    ]
    assert await shop.balance() == 25
    assert "refunds" not in await shop.accounts()
    shop.control.release_events()
    await shop.work()
    assert await shop.balance() == 0


async def test_tax_goes_back_in_proportion_and_to_the_last_cent(shop: Shop) -> None:
    shop.settings = msgspec.structs.replace(shop.settings, stripe_tax=True)
    shop.control.set_tax_rate("0.19")
    row = await shop.paid("9.99")
    assert row.tax == Decimal("1.90")
    for part in ("3.33", "3.33", None):
        await refund(shop, row, part)
    await shop.work()
    shop.control.set_tax_rate("0.10")
    assert sum(each["amount"] for each in at_stripe(shop, row)) == 1189
    held = await shop.accounts()
    assert held.keys() == {"cash", "processor_fees"}
    assert await shop.balance() == 0


async def test_a_refund_at_stripe_of_a_taxed_payment_takes_the_credits_part(shop: Shop) -> None:
    shop.settings = msgspec.structs.replace(shop.settings, stripe_tax=True)
    row = await shop.paid("20")
    shop.stripe.client().v1.refunds.create({"payment_intent": str(row.payment_intent), "amount": 1100})
    await shop.work()
    assert await shop.balance() == 10
    shop.stripe.client().v1.refunds.create({"payment_intent": str(row.payment_intent)})
    await shop.work()
    assert await shop.balance() == 0
    assert (await shop.accounts()).keys() == {"cash", "processor_fees"}


async def test_an_answer_that_was_lost_refunds_nothing_twice(shop: Shop) -> None:
    row = await shop.paid("25")
    shop.control.hold_events()
    await refund(shop, row, "10")
    shop.control.fail("lost_answer", method="POST", path="/v1/refunds")
    await shop.work()
    assert [each.state for each in await refunds(shop)] == ["requested"]
    shop.control.advance(25 * 3600)  # Stripe knows the key no more
    await shop.work_later()
    assert [each.state for each in await refunds(shop)] == ["succeeded"]
    assert [each["amount"] for each in at_stripe(shop, row)] == [1000]
    shop.control.release_events()
    await shop.work()
    assert await shop.balance() == 15


async def test_a_dispute_takes_the_money_below_zero_and_a_won_one_brings_it_back(shop: Shop) -> None:
    row = await shop.paid("25")
    await spend(shop, "20")
    disputed = shop.control.dispute(str(row.payment_intent))
    await shop.work()
    assert (await dispute_state(shop), await shop.balance()) == ("withdrawn", Decimal(-20))
    held = await shop.accounts()
    assert (held["disputed"], held["receivable"]) == (Decimal(25), Decimal(-20))
    assert held["processor_fees"] == Decimal("-16.03")
    shop.control.decide_dispute(disputed, won=True)
    await shop.work()
    assert (await dispute_state(shop), await shop.balance()) == ("reinstated", Decimal(5))
    held = await shop.accounts()
    assert held["processor_fees"] == Decimal("-1.03")
    assert held.keys() == {"cash", "prepaid", "processor_fees", "revenue:test"}


async def test_a_dispute_that_is_lost_stays_taken(shop: Shop) -> None:
    row = await shop.paid("25")
    disputed = shop.control.dispute(str(row.payment_intent), amount=1000)
    shop.control.decide_dispute(disputed, won=False)
    await shop.work()
    assert (await dispute_state(shop), await shop.balance()) == ("lost", Decimal(15))
    assert "disputed" not in await shop.accounts()


async def test_what_was_taken_back_is_not_refunded_as_well(shop: Shop) -> None:
    row = await shop.paid("25")
    await shop.paid("30")
    shop.control.dispute(str(row.payment_intent))
    await shop.work()
    with pytest.raises(InvalidAmount):
        await refund(shop, row, "1")


@pytest.mark.parametrize("seed", range(4))
async def test_disputes_may_be_told_in_any_order_and_twice(shop: Shop, seed: int) -> None:
    shop.control.hold_events()
    row = await shop.order("25")
    shop.pay(row)
    session: Any = shop.control.thing(str(row.session_id))
    disputed = shop.control.dispute(session["payment_intent"])
    shop.control.decide_dispute(disputed, won=True)
    shop.control.set_delivery(copies=2, at_once=8)
    shop.control.release_events(order="shuffled", seed=seed)
    await shop.work()
    await shop.work_later()
    assert (await dispute_state(shop), await shop.balance()) == ("reinstated", Decimal(25))


async def test_a_refund_told_before_its_payment_waits_for_it(shop: Shop) -> None:
    row = await shop.order("25")
    shop.control.hold_events(["checkout.session.completed", "payment_intent.succeeded", "invoice.paid"])
    shop.pay(row)
    session: Any = shop.control.thing(str(row.session_id))
    shop.stripe.client().v1.refunds.create({"payment_intent": session["payment_intent"], "amount": 500})
    await shop.work()
    assert await shop.balance() == 20
    shop.control.release_events()
    await shop.work()
    assert await shop.balance() == 20


async def test_refunds_of_what_others_sold_at_the_account_are_ignored(shop: Shop) -> None:
    client = shop.stripe.client()
    intent = client.v1.payment_intents.create(
        {
            "amount": 5000,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )
    made = client.v1.refunds.create({"payment_intent": intent.id})
    await shop.work()
    assert {event.state for event in await shop.events(made.id)} == {"ignored"}
