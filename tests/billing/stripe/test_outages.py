"""Stripe is away for days, or a worker dies between two steps: nothing is lost, and nothing done twice."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from farebox.core import outbox
from tests.billing.stripe.shop import Shop
from tests.billing.stripe.test_automatic import automatic, ready
from tests.billing.stripe.test_reversals import at_stripe, refund, refunds

HOURS = 72


def away(shop: Shop) -> None:
    shop.control.fail("drop", path="/v1/*", times=10_000)


async def test_three_days_without_stripe_lose_nothing_and_do_nothing_twice(shop: Shop) -> None:
    row = await shop.paid("25", keeps_method=True)
    late = await shop.order("50")
    shop.pay(late)
    await shop.told()
    await refund(shop, row, "5")
    away(shop)
    with capture_logs() as logs:
        for hour in range(HOURS + 11):
            await shop.let_time_pass(hours=hour)
            await shop.worker().work_off()
    assert await shop.balance() == 20
    waiting = await shop.waiting()
    assert {item.topic for item in waiting} == {"stripe.event", "stripe.refund"}
    assert not any(log["event"] == "outbox.given_up" for log in logs)
    alarms = [log for log in logs if log["event"] == "outbox.overdue"]
    assert alarms
    assert all(log["log_level"] == "error" and log["seconds"] >= outbox.OVERDUE_SECONDS for log in alarms)
    async with shop.database.meter_transaction() as session:
        assert (await outbox.count_overdue(session))["stripe.refund"] == 1
    shop.control.clear_faults()
    await shop.work_later()
    assert await shop.balance() == 70
    assert [each["amount"] for each in at_stripe(shop, row)] == [500]
    assert await shop.waiting() == []


async def test_what_is_of_one_customer_goes_out_one_at_a_time_and_in_order(shop: Shop) -> None:
    row = await shop.paid("25")
    for amount in ("1", "2", "3"):
        await refund(shop, row, amount)
    shop.control.fail("server_error", method="POST", path="/v1/refunds")
    await asyncio.gather(*(shop.worker().work_off() for _ in range(3)))
    assert at_stripe(shop, row) == []
    await shop.work_later()
    await shop.work_later()
    assert [each["amount"] for each in at_stripe(shop, row)] == [100, 200, 300]


async def kill_at(shop: Shop, method: str, path: str) -> None:
    """A worker dies while Stripe has done what it was asked, and has not answered."""
    shop.control.fail("hang_after", method=method, path=path)
    dying = asyncio.create_task(shop.worker().work_off())
    await shop.control.hanging()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    shop.control.resume()


KILLED_AT = [("GET", "/v1/checkout/sessions/*"), ("GET", "/v1/payment_intents/*")]


@pytest.mark.parametrize("step", KILLED_AT, ids=lambda step: " ".join(step))
async def test_a_worker_killed_at_an_event_leaves_it_to_the_next(shop: Shop, step: tuple[str, str]) -> None:
    row = await shop.order("25")
    shop.pay(row)
    await shop.told()
    await kill_at(shop, *step)
    await shop.work_later()
    assert await shop.balance() == 25
    assert {event.state for event in await shop.events(row.session_id)} == {"done"}


async def test_a_worker_killed_after_a_refund_was_made_makes_no_second(shop: Shop) -> None:
    row = await shop.paid("25")
    await refund(shop, row, "10")
    await kill_at(shop, "POST", "/v1/refunds")
    await shop.work_later()
    assert [each["amount"] for each in at_stripe(shop, row)] == [1000]
    assert [each.state for each in await refunds(shop)] == ["succeeded"]
    assert await shop.balance() == 15


COLLECTING = ["/v1/invoices", "/v1/invoiceitems", "/v1/invoices/*/finalize", "/v1/invoices/*/pay"]


@pytest.mark.parametrize("path", COLLECTING)
async def test_a_worker_killed_while_it_collects_collects_once(shop: Shop, path: str) -> None:
    await ready(shop)
    await shop.worker().watch()
    await kill_at(shop, "POST", path)
    await shop.work_later()
    (row,) = await automatic(shop)
    assert row.state == "paid"
    assert await shop.balance() == 25
    paid: list[Any] = [
        each
        for each in shop.control.things("invoice")
        if each["metadata"].get("farebox_top_up") == row.id.hex
    ]
    assert [each["total"] for each in paid] == [2000]


async def test_a_worker_killed_after_its_commit_does_it_again_to_no_effect(shop: Shop) -> None:
    """The item is removed in a transaction of its own: whoever dies before it leaves it there."""
    row = await shop.order("25")
    shop.pay(row)
    await shop.told()
    items = await shop.waiting()
    await shop.work()
    async with shop.database.meter_transaction() as session:
        for item in items:
            await outbox.post(session, item.topic, item.payload)
    await shop.work()
    assert await shop.balance() == 25
    assert await shop.waiting() == []
