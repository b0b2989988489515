"""How a subscription begins."""

from tests.stripe_server.payments.payment_methods import method_of
from tests.stripe_server.subscriptions.items import new_item, prices_in, show_items
from tests.stripe_server.subscriptions.life import begin
from tests.stripe_server.subscriptions.periods import end_of_period
from tests.stripe_server.wire.answers import listed
from tests.stripe_server.wire.errors import Json, UnfaithfulAnswer, refused
from tests.stripe_server.world.world import World

_DAY = 24 * 3600


def start(world: World, customer: Json, params: Json) -> Json:
    """A subscription from its parameters. Raises StripeError, and leaves nothing, where none comes about."""
    with world.all_or_nothing():
        return _start(world, customer, params)


def _start(world: World, customer: Json, params: Json) -> Json:
    if not params.get("items"):
        raise refused("Missing required param: items.", param="items", code="parameter_missing")
    behaviour = params.get("payment_behavior", "allow_incomplete")
    if behaviour == "pending_if_incomplete":
        raise refused("`pending_if_incomplete` is for updates.", param="payment_behavior")
    pairs = prices_in(world, params["items"])
    terms = _terms(world, customer, params)
    trial_end = _trial_end(world, customer, params)
    subscription = _new(world, customer, params, pairs[0][1]["currency"], trial_end, terms)
    anchor = subscription["billing_cycle_anchor"]
    now = subscription["start_date"]
    for given, price in pairs:
        end = trial_end or end_of_period(anchor, now, price)
        new_item(world, subscription, given, price, (now, end))
    show_items(world, subscription)
    world.emit("customer.subscription.created", subscription)
    error = begin(world, subscription, behaviour)
    if error is not None and behaviour == "error_if_incomplete":
        raise error
    return subscription


def _new(
    world: World, customer: Json, params: Json, currency: str, trial_end: int | None, terms: Json
) -> Json:
    now = world.now(customer["id"])
    taxed = params.get("automatic_tax", {"enabled": False})["enabled"]
    values: Json = {
        "automatic_tax": {"enabled": taxed, "liability": {"type": "self"} if taxed else None},
        "billing_cycle_anchor": trial_end or now,
        "billing_mode": params.get("billing_mode", {"type": "flexible"}),
        "billing_schedules": [],
        "cancel_at_period_end": params.get("cancel_at_period_end", False),
        "cancellation_details": {},
        "currency": currency,
        "default_tax_rates": [],
        "description": params.get("description"),
        "discounts": [],
        "invoice_settings": {"issuer": {"type": "self"}},
        "items": listed([], ""),
        "metadata": params.get("metadata") or {},
        "payment_settings": {"save_default_payment_method": "off", **params.get("payment_settings", {})},
        "start_date": now,
        "status": _first_status(terms, trial_end),
        "test_clock": customer["test_clock"],
        "trial_end": trial_end,
        "trial_settings": params.get(
            "trial_settings", {"end_behavior": {"missing_payment_method": "create_invoice"}}
        ),
        "trial_start": now if trial_end else None,
    }
    params.get("off_session")  # Whether the payer is there is for the bank to find out.
    return world.add("subscription", customer=customer["id"], **(values | terms))


def _first_status(terms: Json, trial_end: int | None) -> str:
    if trial_end is not None:
        return "trialing"
    return "active" if terms["collection_method"] == "send_invoice" else "incomplete"


def _trial_end(world: World, customer: Json, params: Json) -> int | None:
    now = world.now(customer["id"])
    if params.get("billing_cycle_anchor") is not None:
        raise UnfaithfulAnswer("subscriptions with another anchor than their start are not served")
    if "trial_period_days" in params:
        return int(now + params["trial_period_days"] * _DAY) if params["trial_period_days"] else None
    end = params.get("trial_end", "now")
    return None if end == "now" else int(end)


def _terms(world: World, customer: Json, params: Json) -> Json:
    """How it is paid. Raises StripeError if nobody could be charged."""
    method = params.get("collection_method", "charge_automatically")
    if method == "send_invoice":
        if "days_until_due" not in params:
            raise refused("You must specify `days_until_due`.", param="days_until_due")
        return {"collection_method": method, "days_until_due": params["days_until_due"]}
    chosen = params.get("default_payment_method")
    if chosen is not None:
        chosen = method_of(world, customer["id"], chosen, "default_payment_method")["id"]
    _refuse_nothing_to_charge(customer, params, chosen)
    return {"collection_method": method, "default_payment_method": chosen}


def _refuse_nothing_to_charge(customer: Json, params: Json, chosen: str | None) -> None:
    trial = bool(params.get("trial_period_days")) or params.get("trial_end", "now") != "now"
    waits = trial or params.get("payment_behavior") == "default_incomplete"
    if chosen is None and not waits and customer["invoice_settings"]["default_payment_method"] is None:
        raise refused(
            "This customer has no attached payment source or default payment method. Please consider adding "
            "a default payment method.",
            code="resource_missing",
        )
