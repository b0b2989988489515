"""Faults that others shipped, by name; webhooks doubled, shuffled, late, and of unknown things."""

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from farebox.billing.stripe.automatic.decisions import begin, save_auto_top_up
from farebox.billing.stripe.events.inbox import revive
from tests.billing.stripe.shop import Shop
from tests.billing.stripe.test_webhooks import an_event, send, sign, thin_secret
from tests.gateway.servers import RunningServer

VISA_THAT_ASKS = "4000002760003184"


def another(session: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a session like this one is made of."""
    kept = {name: value for name, value in session.items() if name != "created"}
    return kept | changes


async def automatic(shop: Shop, *, threshold: str = "10", amount: str = "20", ceiling: str = "100") -> None:
    async with shop.database.meter_transaction() as session:
        await save_auto_top_up(
            session,
            shop.organization_id,
            shop.settings,
            enabled=True,
            threshold=Decimal(threshold),
            amount=Decimal(amount),
            monthly_ceiling=Decimal(ceiling),
        )


async def test_a_doubled_completed_event_credits_once(shop: Shop) -> None:
    """llmgateway #1713, pollinations #10621, opencode #28402, open-saas #688."""
    shop.control.set_delivery(copies=3, at_once=8)
    row = await shop.order()
    shop.pay(row)
    await shop.told()
    await asyncio.gather(*(shop.worker().work_off() for _ in range(4)))
    await shop.work()
    for event in await shop.events():
        shop.control.repeat_event(event.id)
    await shop.work_later()
    assert await shop.balance() == 25


async def test_an_event_stored_before_success_is_not_swallowed(shop: Shop) -> None:
    """LibreChat PR 13812: its id was known, so Stripe's retry did nothing."""
    row = await shop.order()
    shop.control.fail("server_error", path="/v1/checkout/sessions/*", times=3)
    shop.control.fail("server_error", path="/v1/payment_intents/*", times=3)
    shop.pay(row)
    await shop.work()
    assert await shop.balance() == 0
    assert {event.state for event in await shop.events(row.session_id)} == {"pending"}
    shop.control.clear_faults()
    await shop.work_later()
    assert await shop.balance() == 25


async def test_a_session_that_is_not_bound_here_waits_and_is_then_a_dead_letter(
    shop: Shop, site: RunningServer
) -> None:
    """Laisky/one-api PR 355: paid, answered with 200, and never credited, or to somebody else."""
    row = await shop.order()
    shop.pay(row)
    await shop.work()
    stranger: Any = shop.control.thing(str(row.session_id))
    world = shop.stripe.app.world
    paid = world.books.add("checkout.session", world.now(), **another(stranger, id="cs_test_stranger"))
    world.change(
        paid, metadata={"farebox_top_up": "0" * 32}, client_reference_id=stranger["client_reference_id"]
    )
    assert (
        await shop.control.forge_event("checkout.session.completed", paid, shop.destinations["thin"]) == 200
    )
    await shop.work()
    (event,) = await shop.events("cs_test_stranger")
    assert (event.state, event.attempts) == ("pending", 1)
    for _ in range(99):
        await shop.let_time_pass()
        await shop.worker().work_off()
    (event,) = await shop.events("cs_test_stranger")
    assert event.state == "dead"
    assert "which is not bound to it here" in str(event.note)
    assert await shop.balance() == 25
    async with shop.database.meter_transaction() as session:
        assert await revive(session) == 1
    await shop.work()
    (event,) = await shop.events("cs_test_stranger")
    assert event.state == "pending"


async def test_a_session_without_our_mark_credits_nobody(shop: Shop) -> None:
    """Its `client_reference_id` anybody may choose, who has one of the account's payment links."""
    row = await shop.order()
    thing: Any = shop.control.thing(str(row.session_id))
    world = shop.stripe.app.world
    values = another(thing, id="cs_test_of_a_link", metadata={}, payment_status="paid")
    paid = world.books.add("checkout.session", world.now(), **values)
    await shop.control.forge_event("checkout.session.completed", paid, shop.destinations["thin"])
    await shop.work()
    (event,) = await shop.events("cs_test_of_a_link")
    assert event.state == "ignored"
    assert await shop.balance() == 0


async def test_paid_invoices_of_another_api_version_are_not_malformed(
    shop: Shop, site: RunningServer
) -> None:
    """openscience #475: what the event holds may change; what is read anew is of our version."""
    row = await shop.order()
    shop.control.hold_events()
    shop.pay(row)
    body = json.dumps(
        an_event(
            api_version="2031-01-01.future",
            reason={"type": ["a list"]},
            related_object={"id": row.session_id, "kind": 7},
            changes=[1, {"x": None}],
        )
    ).encode()
    assert (await send(site, body, sign(body, thin_secret(shop)))).status_code == 200
    old = {"object": "event", "data": {"object": {"id": row.session_id, "payment_status": 3}}}
    body = json.dumps(an_event(type="checkout.session.completed", api_version=None, **old)).encode()
    secret = str(shop.settings.stripe_snapshot_secret)
    assert (await send(site, body, sign(body, secret))).status_code == 200
    await shop.worker().work_off()
    assert await shop.balance() == 25


async def test_an_off_session_intent_in_requires_action_is_no_success(shop: Shop) -> None:
    """akash console #3809: it was parked there, and logged as paid."""
    await shop.paid("25", keeps_method=True)
    await automatic(shop, threshold="30")
    shop.control.require_authentication(off_session_only=True)
    await shop.worker().watch()
    await shop.work()
    (_, row) = await shop.top_ups()
    assert row.state == "requires_action"
    assert await shop.balance() == 25


async def test_the_monthly_ceiling_holds_however_many_look_at_once(shop: Shop) -> None:
    """chipotle #447: a key by the hour is no ceiling."""
    await shop.paid("25", keeps_method=True)
    await automatic(shop, threshold="1000", amount="20", ceiling="50")

    async def try_once() -> None:
        async with shop.database.meter_transaction() as session:
            await begin(session, shop.organization_id)

    for _ in range(4):
        await asyncio.gather(*(try_once() for _ in range(6)))
        await shop.work()
    states = [row.state for row in await shop.top_ups() if row.kind == "automatic"]
    assert states == ["paid", "paid"]
    assert await shop.balance() == 25 + 40


async def test_refunds_of_off_session_charges_are_deducted(shop: Shop) -> None:
    """octopus #630: there is no Checkout session to find the customer by."""
    await shop.paid("25", keeps_method=True)
    await automatic(shop, threshold="30")
    await shop.worker().watch()
    await shop.work()
    (_, row) = await shop.top_ups()
    assert (row.state, await shop.balance()) == ("paid", Decimal(45))
    shop.stripe.client().v1.refunds.create({"payment_intent": str(row.payment_intent)})
    await shop.work()
    assert await shop.balance() == 25


@pytest.mark.parametrize("seed", range(5))
async def test_an_older_state_never_overwrites_a_newer_one(shop: Shop, seed: int) -> None:
    """cashier #1201, polar #6134, Ghost #240: events come in any order, and days late."""
    shop.control.hold_events()
    row = await shop.order()
    shop.pay(row, card="4000000000000002")
    shop.pay(row, method="us_bank_account")
    session: Any = shop.control.thing(str(row.session_id))
    shop.control.settle(session["payment_intent"])
    shop.stripe.client().v1.refunds.create({"payment_intent": session["payment_intent"], "amount": 1000})
    shop.control.advance(3 * 24 * 3600)
    shop.control.set_delivery(copies=2, at_once=8)
    shop.control.release_events(order="shuffled", seed=seed)
    await shop.work()
    await shop.work_later()
    assert (await shop.fresh(row)).state == "paid"
    assert await shop.balance() == 15
    assert {event.state for event in await shop.events(row.session_id)} == {"done"}


async def test_payment_that_fails_after_the_page_is_not_granted_and_is_told(shop: Shop) -> None:
    """lago-api PR 5947; its mail is in `test_top_ups`."""
    row = await shop.order()
    shop.pay(row, method="us_bank_account")
    await shop.work()
    session: Any = shop.control.thing(str(row.session_id))
    shop.control.settle(session["payment_intent"], succeeded=False)
    await shop.work()
    assert ((await shop.fresh(row)).state, await shop.balance()) == ("failed", Decimal(0))


async def test_two_clicks_at_once_make_one_session(shop: Shop) -> None:
    """memories #374."""
    rows = await asyncio.gather(*(shop.order("25") for _ in range(5)))
    assert len({row.session_id for row in rows}) == 1
