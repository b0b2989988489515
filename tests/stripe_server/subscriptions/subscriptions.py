"""Subscriptions as clients make, change and cancel them."""

from typing import Any

from stripe.params import (
    SubscriptionCancelParams,
    SubscriptionCreateParams,
    SubscriptionItemListParams,
    SubscriptionItemRetrieveParams,
    SubscriptionItemUpdateParams,
    SubscriptionListParams,
    SubscriptionResumeParams,
    SubscriptionRetrieveParams,
    SubscriptionUpdateParams,
)

from tests.stripe_server.subscriptions import life
from tests.stripe_server.subscriptions.changing import change_items, credit_all
from tests.stripe_server.subscriptions.starting import start
from tests.stripe_server.wire.answers import page_of, paged
from tests.stripe_server.wire.errors import Json, UnfaithfulAnswer, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.world import World

family = Family()

_ENDED = ("canceled", "incomplete_expired")
_PLAIN = ("collection_method", "days_until_due", "default_payment_method", "description", "metadata")


@family.post("/v1/subscriptions", SubscriptionCreateParams)
def create_subscription(world: World, call: Call) -> Json:
    if "customer" not in call.params:
        raise refused("Missing required param: customer.", param="customer", code="parameter_missing")
    return start(world, world.books.referred("customer", call.params, "customer"), call.params)


@family.get("/v1/subscriptions", SubscriptionListParams)
def list_subscriptions(world: World, call: Call) -> Json:
    """All but the canceled ones, unless a status is asked for."""
    status, price = call.params.get("status"), call.params.get("price")
    ended = {"all": (), "ended": None, None: ("canceled",)}.get(status, ())

    def wanted(subscription: Json) -> bool:
        if price is not None and price not in [item["price"]["id"] for item in subscription["items"]["data"]]:
            return False
        if status in ("all", "ended", None):
            return subscription["status"] in _ENDED if ended is None else subscription["status"] not in ended
        return bool(subscription["status"] == status)

    return page_of(world, call, "subscription", "customer", "collection_method", "test_clock", where=wanted)


@family.get("/v1/subscriptions/{id}", SubscriptionRetrieveParams)
def retrieve_subscription(world: World, call: Call) -> Json:
    return world.books.get("subscription", call["id"])


@family.post("/v1/subscriptions/{id}", SubscriptionUpdateParams)
def update_subscription(world: World, call: Call) -> Json:
    subscription, params = world.books.get("subscription", call["id"]), call.params
    _refuse_ended(subscription)
    before: dict[str, Any] = {}
    behaviour = params.get("proration_behavior", "create_prorations")
    if params.get("payment_behavior", "allow_incomplete") == "pending_if_incomplete":
        raise UnfaithfulAnswer("pending updates are not served")
    if "items" in params:
        before["items"] = change_items(world, subscription, params["items"], behaviour)
    changed = {**changes(subscription, params, *_PLAIN), **_end(subscription, params, world)}
    before |= {name: subscription[name] for name in changed if subscription[name] != changed[name]}
    world.change(subscription, **changed)
    if params.get("trial_end") == "now":
        _end_trial(world, subscription)
    if params.get("billing_cycle_anchor", {}).get("type") == "now":
        life.restart(world, subscription)
    world.emit("customer.subscription.updated", subscription, before)
    return subscription


def _refuse_ended(subscription: Json) -> None:
    if subscription["status"] in _ENDED:
        raise refused("A canceled subscription can only update its cancellation_details and metadata.")


def _end(subscription: Json, params: Json, world: World) -> Json:
    """When it shall end: at its period's end, at an instant, or no longer."""
    now = world.now(subscription["customer"])
    if "cancel_at_period_end" in params:
        at_end = params["cancel_at_period_end"]
        period_end = min(item["current_period_end"] for item in subscription["items"]["data"])
        return {
            "cancel_at_period_end": at_end,
            "cancel_at": period_end if at_end else None,
            "canceled_at": now if at_end else None,
            **_reason(params, at_end=at_end),
        }
    if "cancel_at" in params:
        at = params["cancel_at"] or None
        return {"cancel_at": at, "cancel_at_period_end": False, "canceled_at": now if at else None}
    return _reason(params, at_end=False) if "cancellation_details" in params else {}


def _reason(params: Json, *, at_end: bool) -> Json:
    given = params.get("cancellation_details", {})
    reason = {"reason": "cancellation_requested"} if at_end else {}
    return {"cancellation_details": {**reason, **{name: value or None for name, value in given.items()}}}


def _end_trial(world: World, subscription: Json) -> None:
    if subscription["status"] == "trialing":
        world.change(subscription, trial_end=world.now(subscription["customer"]), status="active")
        life.restart(world, subscription)


@family.delete("/v1/subscriptions/{id}", SubscriptionCancelParams)
def cancel_subscription(world: World, call: Call) -> Json:
    subscription, params = world.books.get("subscription", call["id"]), call.params
    if subscription["status"] in _ENDED:
        raise refused(f"No such subscription: '{subscription['id']}'", code="resource_missing", param="id")
    if params.get("prorate", False):
        credit_all(world, subscription)
    details = {name: value or None for name, value in params.get("cancellation_details", {}).items()}
    life.end(world, subscription, world.now(subscription["customer"]), **details)
    if params.get("invoice_now", False):
        life.bill_now(world, subscription)
    return subscription


@family.post("/v1/subscriptions/{id}/resume", SubscriptionResumeParams)
def resume_subscription(world: World, call: Call) -> Json:
    subscription = world.books.get("subscription", call["id"])
    if subscription["status"] != "paused":
        raise refused("Only paused subscriptions can be resumed.")
    world.change(subscription, status="active")
    world.emit("customer.subscription.resumed", subscription)
    life.restart(world, subscription)
    return subscription


@family.get("/v1/subscription_items", SubscriptionItemListParams)
def list_items(world: World, call: Call) -> Json:
    subscription = world.books.referred("subscription", call.params, "subscription")
    return paged(call, reversed(subscription["items"]["data"]))


@family.get("/v1/subscription_items/{id}", SubscriptionItemRetrieveParams)
def retrieve_item(world: World, call: Call) -> Json:
    return world.books.get("subscription_item", call["id"])


@family.post("/v1/subscription_items/{id}", SubscriptionItemUpdateParams)
def update_item(world: World, call: Call) -> Json:
    item, params = world.books.get("subscription_item", call["id"]), call.params
    subscription = world.books.get("subscription", item["subscription"])
    world.change(item, **changes(item, params, "metadata"))
    given = {name: params[name] for name in ("price", "price_data", "quantity") if name in params}
    behaviour = params.get("proration_behavior", "create_prorations")
    before = change_items(world, subscription, [{"id": item["id"], **given}], behaviour)
    world.emit("customer.subscription.updated", subscription, {"items": before})
    return item
