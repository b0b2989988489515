"""The invoices of a subscription."""

from tests.stripe_server.invoicing.drafts import new_invoice, pending_items, recount, take_in
from tests.stripe_server.subscriptions.items import line_for
from tests.stripe_server.wire.errors import Json
from tests.stripe_server.world.world import World

_DAY = 24 * 3600


def draft_bill(
    world: World, subscription: Json, reason: str, *, free: bool = False, lines: bool = True
) -> Json:
    """A draft for the items' current periods, and for what was pending besides. `free`: of a trial."""
    customer = world.books.get("customer", subscription["customer"])
    details = {"subscription": subscription["id"], "metadata": dict(subscription["metadata"])}
    invoice = new_invoice(
        world,
        customer,
        subscription["currency"],
        auto_advance=True,
        automatic_tax=_tax(subscription),
        billing_reason=reason,
        default_payment_method=subscription["default_payment_method"],
        parent={"type": "subscription_details", "subscription_details": details},
        **_terms(world, subscription),
    )
    if lines:
        written = [
            line_for(item, 0 if free else None, invoice=invoice["id"])
            for item in subscription["items"]["data"]
        ]
        world.books.facts[invoice["id"]]["lines"] = written
        recount(world, invoice)
    for item in pending_items(world, customer["id"], subscription["currency"]):
        take_in(world, invoice, item)
    world.change(subscription, latest_invoice=invoice["id"])
    world.emit("invoice.created", invoice)
    return invoice


def _tax(subscription: Json) -> Json:
    tax = subscription["automatic_tax"]
    return {"enabled": True, "liability": {"type": "self"}, "provider": "stripe"} if tax["enabled"] else tax


def _terms(world: World, subscription: Json) -> Json:
    method = subscription["collection_method"]
    if method == "charge_automatically":
        return {"collection_method": method}
    now = world.now(subscription["customer"])
    return {"collection_method": method, "due_date": now + subscription["days_until_due"] * _DAY}
