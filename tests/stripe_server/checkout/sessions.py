"""Checkout sessions as clients make, read and expire them."""

from typing import Any

from stripe.params.checkout import (
    SessionCreateParams,
    SessionExpireParams,
    SessionLineItemListParams,
    SessionListParams,
    SessionRetrieveParams,
    SessionUpdateParams,
)

from tests.stripe_server.checkout.amounts import lines_of, put_tax, refuse_too_little, totals
from tests.stripe_server.checkout.rules import refuse_misfit
from tests.stripe_server.payments.collecting import cancel
from tests.stripe_server.payments.setup_intents import new_setup
from tests.stripe_server.wire.answers import listed, page_of, paged
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family, Params
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.world import World

family = Family()

_DAY, _HALF_HOUR = 24 * 3600, 1800

_AS_GIVEN = (
    "after_expiration",
    "allow_promotion_codes",
    "billing_address_collection",
    "branding_settings",
    "cancel_url",
    "client_reference_id",
    "consent_collection",
    "customer_email",
    "integration_identifier",
    "locale",
    "metadata",
    "mode",
    "name_collection",
    "origin_context",
    "payment_method_collection",
    "return_url",
    "saved_payment_method_options",
    "submit_type",
    "success_url",
)
# What paying needs later and the session does not show.
_KEPT = ("payment_intent_data", "subscription_data", "customer_update", "setup_intent_data")


@family.post("/v1/checkout/sessions", SessionCreateParams)
def create_session(world: World, call: Call) -> Json:
    params = call.params
    refuse_misfit(world, params)
    customer = world.books.referred("customer", params, "customer") if "customer" in params else None
    lines = lines_of(world, params, params.get("currency")) if params["mode"] != "setup" else []
    if params["mode"] == "payment":
        refuse_too_little(lines)
    taxed = params.get("automatic_tax", {"enabled": False})["enabled"]
    located = taxed and customer is not None and customer["address"] is not None
    if located:
        put_tax(world, lines)
    given = {name: params[name] for name in _AS_GIVEN if name in params}
    session = world.add(
        "checkout.session",
        **_defaults(params),
        **_expiry(world, params),
        **(totals(lines) if lines else {"currency": params.get("currency")}),
        **given,
        automatic_tax=_tax(taxed, "complete" if located else "requires_location_inputs"),
        customer=customer["id"] if customer else None,
    )
    kept = {name: params[name] for name in _KEPT if name in params}
    world.books.facts[session["id"]].update(lines=lines, **kept)
    world.change(session, url=f"{world.settings.url}/c/pay/{session['id']}")
    if params["mode"] == "setup":
        _prepare_setup(world, session, params)
    return session


def _defaults(params: Params) -> Json:
    mode = params["mode"]
    values: Json = {
        "adaptive_pricing": params.get("adaptive_pricing", {"enabled": True}),
        "custom_fields": params.get("custom_fields", []),
        "custom_text": params.get("custom_text", {}),
        "payment_method_options": params.get("payment_method_options", {}),
        "payment_method_types": ["card", "link", "alipay", "wechat_pay", "us_bank_account"],
        "payment_status": "no_payment_required" if mode == "setup" else "unpaid",
        "phone_number_collection": params.get("phone_number_collection", {"enabled": False}),
        "shipping_options": [],
        "status": "open",
        "ui_mode": params.get("ui_mode", "hosted_page"),
        "wallet_options": {},
    }
    if "customer" not in params and mode != "subscription":
        values["customer_creation"] = params.get("customer_creation", _creation(params))
    if mode == "payment":
        values["invoice_creation"] = _invoice_creation(params)
    if "tax_id_collection" in params:
        values["tax_id_collection"] = {"required": "never", **params["tax_id_collection"]}
    return values


def _creation(params: Params) -> str:
    invoiced = params.get("invoice_creation", {"enabled": False})["enabled"]
    return "always" if invoiced or params["mode"] == "setup" else "if_required"


def _invoice_creation(params: Params) -> Json:
    given = params.get("invoice_creation", {"enabled": False})
    return {"enabled": given["enabled"], "invoice_data": {"metadata": {}, **given.get("invoice_data", {})}}


def _expiry(world: World, params: Params) -> Json:
    now = world.now()
    expires_at = params.get("expires_at", now + _DAY)
    if expires_at > now + _DAY:
        message = "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation."
        raise refused(message, param="expires_at")
    if expires_at < now + _HALF_HOUR:
        message = "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation."
        raise refused(message, param="expires_at")
    return {"expires_at": expires_at}


def _tax(enabled: bool, status: str) -> Json:
    if not enabled:
        return {"enabled": False}
    return {"enabled": True, "liability": {"type": "self"}, "provider": "stripe", "status": status}


def _prepare_setup(world: World, session: Json, params: Params) -> None:
    data = params.get("setup_intent_data", {})
    values = {name: data[name] for name in ("description", "metadata") if name in data}
    setup = new_setup(world, session["customer"], **values)
    world.books.facts[setup["id"]]["checkout"] = session["id"]
    world.change(session, setup_intent=setup["id"])


@family.get("/v1/checkout/sessions", SessionListParams)
def list_sessions(world: World, call: Call) -> Json:
    return page_of(
        world,
        call,
        "checkout.session",
        "customer",
        "payment_intent",
        "payment_link",
        "status",
        "subscription",
    )


@family.get("/v1/checkout/sessions/{id}", SessionRetrieveParams)
def retrieve_session(world: World, call: Call) -> Json:
    return world.books.get("checkout.session", call["id"])


@family.post("/v1/checkout/sessions/{id}", SessionUpdateParams)
def update_session(world: World, call: Call) -> Json:
    session = world.books.get("checkout.session", call["id"])
    changed: dict[str, Any] = changes(session, call.params, "metadata")
    world.change(session, **changed)
    return session


@family.get("/v1/checkout/sessions/{id}/line_items", SessionLineItemListParams)
def list_lines(world: World, call: Call) -> Json:
    session = world.books.get("checkout.session", call["id"])
    return paged(call, world.books.facts[session["id"]]["lines"])


@family.included("checkout.session", "line_items")
def line_items(world: World, session: Json) -> Json:
    rows = world.books.facts[session["id"]]["lines"]
    return listed(rows, f"/v1/checkout/sessions/{session['id']}/line_items")


@family.post("/v1/checkout/sessions/{id}/expire", SessionExpireParams)
def expire_session(world: World, call: Call) -> Json:
    session = world.books.get("checkout.session", call["id"])
    if session["status"] != "open":
        raise refused(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a '
            f"status of {session['status']}."
        )
    _expire(world, session)
    return session


@family.due
def expire_what_is_due(world: World) -> None:
    for session in world.books.oldest_first("checkout.session", status="open"):
        if session["expires_at"] <= world.now():
            _expire(world, session)


def _expire(world: World, session: Json) -> None:
    world.change(session, status="expired", url=None)
    intent = world.books.find(session["payment_intent"] or "")
    if intent is not None:
        cancel(world, intent)
    world.emit("checkout.session.expired", session)
