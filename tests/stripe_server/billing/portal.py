"""The billing portal: sessions, what they let customers do, and their page."""

from html import escape
from typing import Any

from stripe.params.billing_portal import (
    ConfigurationCreateParams,
    ConfigurationListParams,
    ConfigurationRetrieveParams,
    ConfigurationUpdateParams,
    SessionCreateParams,
)

from tests.stripe_server.payments.banks import CARDS, GOOD, card_numbered
from tests.stripe_server.payments.payment_methods import attach, detach, new_card
from tests.stripe_server.wire.answers import page_of
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.pages import Fields, Page, SentOn, Shown, button, choice, form
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.world import World

family = Family()

_CONFIGURATION, _SESSION = "billing_portal.configuration", "billing_portal.session"
_PATH = "/v1/billing_portal/configurations"


def _features(given: Json) -> Json:
    """All features, those that were not asked for switched off."""
    update = given.get("subscription_update", {})
    return {
        "customer_update": {"allowed_updates": [], "enabled": False, **given.get("customer_update", {})},
        "invoice_history": {"enabled": False, **given.get("invoice_history", {})},
        "payment_method_update": {"enabled": False, **given.get("payment_method_update", {})},
        "subscription_cancel": {
            "cancellation_reason": {"enabled": False, "options": []},
            "enabled": False,
            "mode": "at_period_end",
            "proration_behavior": "none",
            **given.get("subscription_cancel", {}),
        },
        "subscription_pause": {
            "enabled": False,
            "duration": {"interval_options": [], "type": "indefinite"},
        },
        "subscription_update": {
            "default_allowed_updates": [],
            "enabled": False,
            "proration_behavior": "none",
            "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
            **{name: value or [] for name, value in update.items()},
        },
    }


@family.post(_PATH, ConfigurationCreateParams)
def create_configuration(world: World, call: Call) -> Json:
    params = call.params
    configuration = _new_configuration(world, params["features"], params.get("business_profile", {}))
    world.change(configuration, **changes(configuration, params, "default_return_url", "metadata", "name"))
    if "login_page" in params:
        world.change(configuration, login_page=params["login_page"])
    world.emit("billing_portal.configuration.created", configuration)
    return configuration


def _new_configuration(world: World, features: Json, profile: Json, *, default: bool = False) -> Json:
    return world.add(
        _CONFIGURATION,
        active=True,
        business_profile=profile,
        features=_features(features),
        is_default=default,
        login_page={"enabled": False},
        updated=world.now(),
    )


@family.get(_PATH, ConfigurationListParams)
def list_configurations(world: World, call: Call) -> Json:
    return page_of(world, call, _CONFIGURATION, "active", "is_default")


@family.get(_PATH + "/{id}", ConfigurationRetrieveParams)
def retrieve_configuration(world: World, call: Call) -> Json:
    return world.books.get(_CONFIGURATION, call["id"])


@family.post(_PATH + "/{id}", ConfigurationUpdateParams)
def update_configuration(world: World, call: Call) -> Json:
    configuration, params = world.books.get(_CONFIGURATION, call["id"]), call.params
    names = ("active", "business_profile", "default_return_url", "metadata", "name")
    changed: dict[str, Any] = changes(configuration, params, *names)
    if "features" in params:
        changed["features"] = _features({**configuration["features"], **params["features"]})
    world.change(configuration, "billing_portal.configuration.updated", updated=world.now(), **changed)
    return configuration


@family.post("/v1/billing_portal/sessions", SessionCreateParams)
def create_session(world: World, call: Call) -> Json:
    params = call.params
    if "customer" not in params:
        raise refused("Missing required param: customer.", param="customer", code="parameter_missing")
    customer = world.books.referred("customer", params, "customer")
    configuration = _configuration(world, params)
    session = world.add(
        _SESSION,
        customer=customer["id"],
        configuration=configuration["id"],
        flow=_flow(params["flow_data"]) if "flow_data" in params else None,
        locale=params.get("locale"),
        return_url=params.get("return_url", configuration["default_return_url"]),
        url="",
    )
    world.change(session, url=f"{world.settings.url}/p/session/{session['id']}")
    world.emit("billing_portal.session.created", session)
    return session


def _configuration(world: World, params: Json) -> Json:
    if "configuration" in params:
        return world.books.referred(_CONFIGURATION, params, "configuration")
    for configuration in world.books.oldest_first(_CONFIGURATION, is_default=True):
        return configuration
    every: Json = {"payment_method_update": {"enabled": True}, "invoice_history": {"enabled": True}}
    return _new_configuration(world, every, {}, default=True)


def _flow(given: Json) -> Json:
    if given["type"] != "payment_method_update":
        raise refused("This portal has no such flow.", param="flow_data[type]")
    return {"after_completion": {"type": "portal_homepage"}, **given}


def _shown(world: World, identifier: str) -> Shown:
    session = world.books.get(_SESSION, identifier)
    customer = world.books.get("customer", session["customer"])
    methods = world.books.oldest_first("payment_method", customer=customer["id"])
    rows = [_method_row(method) for method in methods]
    invoices = world.books.oldest_first("invoice", customer=customer["id"])
    bills = "".join(
        f'<li><a href="{escape(invoice["hosted_invoice_url"])}">{escape(str(invoice["number"]))}</a> '
        f"{escape(invoice['status'])}</li>"
        for invoice in invoices
        if invoice["hosted_invoice_url"]
    )
    cards = {card.number: f"{card.number} {token}" for token, card in CARDS.items() if card.attachable}
    add = form(choice("card", "Card", cards), button("add", "Add a card"))
    back = form(button("return", "Return")) if session["return_url"] else ""
    return Shown("Billing", f"{''.join(rows)}{add}<ul>{bills}</ul>{back}")


def _method_row(method: Json) -> str:
    last4 = method[method["type"]].get("last4", "")
    label = escape(f"{method['type']} {last4}")
    return form(
        f'<input type="hidden" name="method" value="{method["id"]}">{label}', button("remove", "Remove")
    )


def _posted(world: World, identifier: str, fields: Fields) -> Shown | SentOn:
    session = world.books.get(_SESSION, identifier)
    match fields.get("action"):
        case "add":
            _add_card(world, session["customer"], fields.get("card", GOOD.number))
        case "remove":
            detach(world, world.books.get("payment_method", fields.get("method", "")))
        case "return" if session["return_url"]:
            return SentOn(session["return_url"])
    return _shown(world, identifier)


def _add_card(world: World, holder: str, number: str) -> None:
    """A card added here is the default from now on."""
    method = new_card(world, card_numbered(number) or GOOD)
    attach(world, method, holder)
    world.books.facts[method["id"]]["set_up"] = True
    customer = world.books.get("customer", holder)
    settings = {**customer["invoice_settings"], "default_payment_method": method["id"]}
    world.change(customer, "customer.updated", invoice_settings=settings)


PAGES = [Page("/p/session", _shown, _posted)]
