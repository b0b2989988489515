"""`farebox stripe`: what an operator does about payments."""

from pathlib import Path
from typing import Any

import pytest

from farebox.core.ids import external
from tests.billing.stripe.shop import Shop
from tests.cli.commands import Farebox, shell


@pytest.fixture
def operator(shop: Shop, database_url: str, tmp_path: Path) -> Farebox:
    settings = {
        "stripe_api_key": str(shop.settings.stripe_api_key),
        "stripe_base_url": str(shop.settings.stripe_base_url),
        "base_url": str(shop.settings.base_url),
    }
    return shell(tmp_path, database_url, **settings)


async def test_dead_letters_are_listed_and_tried_again(shop: Shop, operator: Farebox) -> None:
    row = await shop.order("25")
    session = shop.stripe.app.world.books.get("checkout.session", str(row.session_id))
    session["amount_subtotal"] = 100
    shop.control.hold_events(["payment_intent.succeeded", "invoice.paid"])
    shop.pay(row)
    await shop.work()
    (dead,) = operator.run("stripe", "events", "--json").json()
    assert (dead["type"], dead["object"]) == ("checkout.session.completed", row.session_id)
    assert "minor units of USD were paid" in dead["note"]
    session["amount_subtotal"] = 2500
    assert operator.run("stripe", "retry", "--json").json() == {"retried": 1}
    await shop.work()
    assert await shop.balance() == 25
    assert operator.run("stripe", "events").out.strip() == "There are none."
    assert operator.run("stripe", "retry", "evt_of_nobody").refusal.endswith(
        "No event evt_of_nobody was told here."
    )
    done: Any = operator.run("stripe", "events", "--state", "done", "--json").json()
    assert dead["id"] in {each["id"] for each in done}


async def test_a_refund_is_ordered_by_hand(shop: Shop, operator: Farebox) -> None:
    row = await shop.paid("25")
    name = external("topup", row.id)
    organization = external("org", shop.organization_id)
    (listed,) = operator.run("stripe", "top-ups", organization, "--json").json()
    assert (listed["id"], listed["state"], listed["payment"]) == (name, "paid", row.payment_intent)
    made = operator.run("stripe", "refund", name, "10", "--json").json()
    assert (made["credit"], made["tax"]) == ("10.00", "0.00")
    await shop.work()
    assert await shop.balance() == 15
    assert "No more than 15.00 can go back." in operator.run("stripe", "refund", name, "20").refusal
    assert "15.00 leaves the balance" in operator.run("stripe", "refund", name).out


async def test_a_destination_is_made_with_the_events_that_are_followed(shop: Shop, operator: Farebox) -> None:
    made = operator.run("stripe", "connect", "--json").json()
    assert made["url"] == f"{shop.settings.base_url}/webhooks/stripe"
    assert made["secret"].startswith("whsec_")
    shop.stripe.client().v2.core.event_destinations.delete(made["destination"])


async def test_a_sweep_by_hand_finds_what_was_missed(shop: Shop, operator: Farebox) -> None:
    shop.control.hold_events()
    row = await shop.order("25")
    shop.pay(row)
    # A process of its own: a command that runs in this one keeps its logger, which other tests listen to.
    assert operator.spawn("stripe", "sweep", "--json").json()["followed"] >= 1
    assert await shop.balance() == 25


def test_without_a_key_nothing_is_asked_of_stripe(database_url: str, tmp_path: Path) -> None:
    assert "Payments are off" in shell(tmp_path, database_url).run("stripe", "sweep").refusal
