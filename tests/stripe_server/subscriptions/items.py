"""What a subscription is to: prices and quantities, each with its current period."""

import stripe

from tests.stripe_server.billing.catalogue import price_in, total
from tests.stripe_server.invoicing.lines import new_line, pricing_of
from tests.stripe_server.wire.answers import listed
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.world.shapes import complete
from tests.stripe_server.world.world import World

Period = tuple[int, int]


def prices_in(world: World, given: list[Json]) -> list[tuple[Json, Json]]:
    """The parameters of items with their prices. Raises StripeError for a price that does not recur."""
    pairs = [(one, price_in(world, one, f"items[{index}]")) for index, one in enumerate(given)]
    for _, price in pairs:
        if price["type"] != "recurring":
            message = "The price specified is set to `type=one_time` but this field only accepts recurring."
            raise refused(message, param="items[0][price]")
    if len({price["currency"] for _, price in pairs}) > 1:
        raise refused("All prices on a subscription must have the same currency.", param="items")
    return pairs


def new_item(world: World, subscription: Json, given: Json, price: Json, period: Period) -> Json:
    return world.books.add(
        "subscription_item",
        world.now(subscription["customer"]),
        billing_thresholds=None,
        current_period_start=period[0],
        current_period_end=period[1],
        discounts=[],
        metadata=given.get("metadata") or {},
        plan=plan_of(price),
        price=price,
        quantity=given.get("quantity", 1),
        subscription=subscription["id"],
        tax_rates=[],
    )


def plan_of(price: Json) -> Json:
    """The older form of a recurring price, which items still carry."""
    recurring = price["recurring"]
    values: Json = {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": False,
        "metadata": price["metadata"],
        "nickname": price["nickname"],
        "product": price["product"],
        "usage_type": recurring["usage_type"],
    }
    return complete(stripe.Plan, values)


def show_items(world: World, subscription: Json) -> None:
    """Let the subscription show its items as they are now."""
    rows = world.books.oldest_first("subscription_item", subscription=subscription["id"])
    world.change(
        subscription, items=listed(rows, f"/v1/subscription_items?subscription={subscription['id']}")
    )


def line_for(item: Json, amount: int | None = None, *, invoice: str | None = None) -> Json:
    """The line of an invoice for an item's current period."""
    price, quantity = item["price"], item["quantity"]
    details = {"subscription_item": item["id"], "subscription": item["subscription"], "proration": False}
    return new_line(
        total(price, quantity) if amount is None else amount,
        price["currency"],
        description=f"{quantity} x {price['nickname'] or price['id']}",
        invoice=invoice,
        metadata=dict(item["metadata"]),
        parent={"type": "subscription_item_details", "subscription_item_details": details},
        period={"start": item["current_period_start"], "end": item["current_period_end"]},
        pricing=pricing_of(price),
        quantity=quantity,
        quantity_decimal=str(quantity),
        subscription=item["subscription"],
    )
