"""Changes to what a subscription is to, and what they come to within a period."""

import copy

from tests.stripe_server.billing.catalogue import price_in, total
from tests.stripe_server.invoicing.items import new_item as new_invoice_item
from tests.stripe_server.invoicing.lines import pricing_of
from tests.stripe_server.subscriptions.items import new_item, plan_of, show_items
from tests.stripe_server.subscriptions.life import bill_now, restart
from tests.stripe_server.subscriptions.periods import end_of_period, share_left
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.world.world import World


def change_items(world: World, subscription: Json, given: list[Json], behaviour: str) -> Json:
    """Change, add and take away items; returns the items as they were.

    `behaviour` is `none`, or `create_prorations` and `always_invoice`, which make up for what is left of
    the period, with the next invoice or at once.
    """
    before = copy.deepcopy(subscription["items"])
    prorate = behaviour != "none" and subscription["status"] != "trialing"
    new_interval = False
    for index, one in enumerate(given):
        new_interval |= _change(world, subscription, one, f"items[{index}]", prorate=prorate)
    show_items(world, subscription)
    if not subscription["items"]["data"]:
        raise refused("A subscription must have at least one active item.", param="items")
    if new_interval:
        restart(world, subscription)
    elif behaviour == "always_invoice":
        bill_now(world, subscription)
    return dict(before)


def _change(world: World, subscription: Json, given: Json, where: str, *, prorate: bool) -> bool:
    """One item's change; whether its interval is another one now."""
    if "id" not in given:
        _add(world, subscription, given, where, prorate=prorate)
        return False
    item = world.books.get("subscription_item", given["id"], f"{where}[id]")
    if prorate:
        _credit_rest(world, subscription, item)
    if given.get("deleted", False):
        world.books.remove("subscription_item", item["id"])
        return False
    priced = "price" in given or "price_data" in given
    price = price_in(world, given, where) if priced else item["price"]
    new_interval = price["recurring"] != item["price"]["recurring"]
    quantity = given.get("quantity", item["quantity"])
    world.change(item, price=price, plan=plan_of(price), quantity=quantity)
    if prorate and not new_interval:
        _charge_rest(world, subscription, item)
    return bool(new_interval)


def _add(world: World, subscription: Json, given: Json, where: str, *, prorate: bool) -> None:
    price = price_in(world, given, where)
    now = world.now(subscription["customer"])
    period = (now, end_of_period(subscription["billing_cycle_anchor"], now, price))
    item = new_item(world, subscription, given, price, period)
    if prorate:
        _charge_rest(world, subscription, item)


def _credit_rest(world: World, subscription: Json, item: Json) -> None:
    _prorate(world, subscription, item, -1, "Unused time on")


def _charge_rest(world: World, subscription: Json, item: Json) -> None:
    _prorate(world, subscription, item, 1, "Remaining time on")


def _prorate(world: World, subscription: Json, item: Json, sign: int, words: str) -> None:
    """An invoice item for what is left of the period."""
    now = world.now(subscription["customer"])
    price = item["price"]
    new_invoice_item(
        world,
        subscription["customer"],
        amount=sign * round(total(price, item["quantity"]) * share_left(item, now)),
        currency=price["currency"],
        description=f"{words} {item['quantity']} x {price['nickname'] or price['id']}",
        metadata={},
        parent={
            "type": "subscription_details",
            "subscription_details": {
                "subscription": subscription["id"],
                "subscription_item": item["id"],
            },
        },
        period={"start": now, "end": item["current_period_end"]},
        pricing=pricing_of(price),
        proration=True,
    )


def credit_all(world: World, subscription: Json) -> None:
    """What is left of all periods goes back with the next invoice."""
    for item in subscription["items"]["data"]:
        _credit_rest(world, subscription, item)
