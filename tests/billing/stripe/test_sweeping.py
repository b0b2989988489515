"""Once a day, whatever the webhooks have missed is found."""

from decimal import Decimal
from typing import Any

from structlog.testing import capture_logs

from tests.billing.clock import Clock
from tests.billing.stripe.shop import Shop
from tests.billing.stripe.test_automatic import automatic, ready
from tests.billing.stripe.test_reversals import dispute_state


async def test_payments_refunds_and_disputes_nobody_told_of_are_found(shop: Shop) -> None:
    refunded, disputed = await shop.paid("25"), await shop.paid("30")
    shop.control.hold_events()
    missed = await shop.order("40")
    shop.pay(missed)
    shop.stripe.client().v1.refunds.create({"payment_intent": str(refunded.payment_intent)})
    shop.control.dispute(str(disputed.payment_intent))
    assert await shop.balance() == 55
    await shop.worker().sweep()
    assert (await shop.fresh(missed)).state == "paid"
    assert (await dispute_state(shop), await shop.balance()) == ("withdrawn", Decimal(40))
    shop.control.release_events()
    await shop.work()
    assert await shop.balance() == 40


async def test_a_payment_whose_session_was_never_bound_is_found_by_its_mark(shop: Shop) -> None:
    shop.control.hold_events()
    shop.control.fail("lost_answer", method="POST", path="/v1/checkout/sessions")
    try:
        await shop.order("25")
    except Exception as error:
        assert "cannot be reached" in str(error)  # noqa: PT017  the stand-in dropped the answer
    (row,) = await shop.top_ups()
    made: list[Any] = [
        each
        for each in shop.control.things("checkout.session")
        if each["metadata"].get("farebox_top_up") == row.id.hex
    ]
    shop.control.pay_checkout(made[0]["id"])
    await shop.worker().sweep()
    assert ((await shop.fresh(row)).session_id, await shop.balance()) == (made[0]["id"], Decimal(25))


async def test_an_automatic_payment_nobody_told_of_is_found(shop: Shop) -> None:
    await ready(shop)
    shop.control.require_authentication(off_session_only=True)
    await shop.worker().watch()
    await shop.work()
    shop.control.hold_events()
    (row,) = await automatic(shop)
    (payment,) = [
        each for each in shop.control.things("invoice_payment") if each["invoice"] == row.invoice_id
    ]
    shop.control.authenticate(payment["payment"]["payment_intent"])
    await shop.worker().sweep()
    assert await shop.balance() == 25


async def test_one_worker_sweeps_and_once_a_day(shop: Shop, clock: Clock) -> None:
    await shop.worker().sweep()
    before = len(shop.asked("/v1/refunds"))
    await shop.worker().sweep()
    assert len(shop.asked("/v1/refunds")) == before
    clock.advance(days=1)
    await shop.worker().sweep()
    assert len(shop.asked("/v1/refunds")) == before + 1


async def test_a_sweep_while_stripe_is_away_is_an_alarm_and_nothing_more(shop: Shop) -> None:
    shop.control.fail("drop", path="/v1/checkout/sessions")
    with capture_logs() as logs:
        await shop.worker().sweep()
    assert [log["log_level"] for log in logs if log["event"] == "stripe.sweep_failed"] == ["error"]
