"""Which parameters go together when a Checkout session is made."""

from urllib.parse import urlsplit

from tests.stripe_server.wire.errors import Json, StripeError, refused
from tests.stripe_server.wire.routing import Params
from tests.stripe_server.world.world import World

_BELONGS = {
    "payment_intent_data": ("payment",),
    "invoice_creation": ("payment",),
    "submit_type": ("payment",),
    "subscription_data": ("subscription",),
    "payment_method_collection": ("subscription",),
    "setup_intent_data": ("setup",),
    "line_items": ("payment", "subscription"),
    "customer_creation": ("payment", "setup"),
}


def refuse_misfit(world: World, params: Params) -> None:
    """Raises StripeError for parameters that the mode or each other rule out."""
    if "mode" not in params:
        raise _missing("mode")
    _refuse_by_mode(params)
    _refuse_urls(params)
    for name in ("customer_email", "customer_creation"):
        if "customer" in params and name in params:
            raise refused(f"You may only specify one of these parameters: customer, {name}.", param=name)
    if params.get("automatic_tax", {"enabled": False})["enabled"] and "customer" in params:
        _refuse_unknown_place(world, params)


def _refuse_by_mode(params: Params) -> None:
    mode = params["mode"]
    for name, modes in _BELONGS.items():
        if name in params and mode not in modes:
            raise refused(f"You can not pass `{name}` in `{mode}` mode.", param=name)
    if mode != "setup" and "line_items" not in params:
        raise _missing("line_items")
    if mode == "setup" and "currency" not in params:
        raise _missing("currency")


def _refuse_urls(params: Params) -> None:
    hosted = params.get("ui_mode", "hosted_page") == "hosted_page"
    if hosted and "success_url" not in params:
        raise _missing("success_url")
    for name in ("success_url", "cancel_url"):
        if name in params and not hosted:
            raise refused(f"`{name}` is only for the hosted page.", param=name)
    for name in ("success_url", "cancel_url", "return_url"):
        if name in params and urlsplit(params[name]).scheme not in ("http", "https"):
            raise refused("Not a valid URL", param=name, code="url_invalid")


def _refuse_unknown_place(world: World, params: Params) -> None:
    """Tax needs an address: one that the customer has, or leave to save the one that is typed in."""
    customer: Json = world.books.referred("customer", params, "customer")
    if customer["address"] is None and params.get("customer_update", {}).get("address") != "auto":
        raise refused(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid "
            "address to the Customer or set either `customer_update[address]` to 'auto' or "
            "`customer_update[shipping]` to 'auto' to save the address entered in Checkout to the Customer.",
            code="customer_tax_location_invalid",
        )


def _missing(name: str) -> StripeError:
    return refused(f"Missing required param: {name}.", param=name, code="parameter_missing")
