"""SetupIntents: keeping a method for payments to come, without a payment now."""

import copy
from typing import Any

from stripe.params import (
    SetupIntentCancelParams,
    SetupIntentConfirmParams,
    SetupIntentCreateParams,
    SetupIntentListParams,
    SetupIntentRetrieveParams,
    SetupIntentUpdateParams,
)

from tests.stripe_server.payments.banks import GOOD, Answer, KnownCard
from tests.stripe_server.payments.payment_methods import attach, method_of
from tests.stripe_server.wire.answers import page_of
from tests.stripe_server.wire.errors import Json, StripeError, card_error, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.world import World

family = Family()

_CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")


@family.post("/v1/setup_intents", SetupIntentCreateParams)
def create_setup(world: World, call: Call) -> Json:
    params = call.params
    customer = world.books.referred("customer", params, "customer")["id"] if "customer" in params else None
    values = {name: params[name] for name in ("description", "metadata", "usage") if name in params}
    methods = {"allow_redirects": "always"} | params.get("automatic_payment_methods", {"enabled": True})
    setup = new_setup(world, customer, automatic_payment_methods=methods, **values)
    if "payment_method" in params:
        method = method_of(world, customer, params["payment_method"])
        world.change(setup, payment_method=method["id"], status="requires_confirmation")
    return _confirmed(world, setup, params) if params.get("confirm", False) else setup


def new_setup(world: World, customer: str | None, **values: Any) -> Json:
    defaults: Json = {
        "payment_method_options": {},
        "payment_method_types": ["card", "link"],
        "status": "requires_payment_method",
        "usage": "off_session",
    }
    setup = world.add("setup_intent", customer=customer, **(defaults | values))
    world.change(setup, client_secret=f"{setup['id']}_secret_{new_token()}")
    world.emit("setup_intent.created", setup)
    return setup


@family.get("/v1/setup_intents", SetupIntentListParams)
def list_setups(world: World, call: Call) -> Json:
    return page_of(world, call, "setup_intent", "customer", "payment_method")


@family.get("/v1/setup_intents/{id}", SetupIntentRetrieveParams)
def retrieve_setup(world: World, call: Call) -> Json:
    return world.books.get("setup_intent", call["id"])


@family.post("/v1/setup_intents/{id}", SetupIntentUpdateParams)
def update_setup(world: World, call: Call) -> Json:
    setup = world.books.get("setup_intent", call["id"])
    world.change(setup, **changes(setup, call.params, "customer", "description", "metadata"))
    return setup


@family.post("/v1/setup_intents/{id}/confirm", SetupIntentConfirmParams)
def confirm_setup(world: World, call: Call) -> Json:
    setup = world.books.get("setup_intent", call["id"])
    _refuse_unless_open(setup, "confirm")
    if "payment_method" in call.params:
        method = method_of(world, setup["customer"], call.params["payment_method"])
        world.change(setup, payment_method=method["id"])
    return _confirmed(world, setup, call.params)


def _confirmed(world: World, setup: Json, params: Json) -> Json:
    if setup["payment_method"] is None:
        raise refused("You cannot confirm this SetupIntent because it's missing a payment method.")
    method = world.books.get("payment_method", setup["payment_method"])
    error = try_setup(world, setup, method, return_url=params.get("return_url"))
    if error is not None:
        raise error
    return setup


def try_setup(
    world: World, setup: Json, method: Json, *, return_url: str | None = None
) -> StripeError | None:
    """Ask the bank to keep the method on file; the error of a request that confirms, if any."""
    card: KnownCard = world.books.facts[method["id"]].get("card", GOOD)
    world.change(setup, payment_method=method["id"], next_action=None)
    if card.decline is not None and not card.attachable:
        return _fail(world, setup, Answer("declined", *card.decline))
    if card.authentication != "never":
        url = f"{world.settings.url}/authenticate/{setup['id']}"
        action = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": return_url}}
        world.change(setup, status="requires_action", next_action=action)
        world.emit("setup_intent.requires_action", setup)
        return None
    _succeed(world, setup)
    return None


def authenticated(world: World, setup: Json, *, agreed: bool) -> None:
    """The payer has been to the bank's page. Raises StripeError if nothing waited for that."""
    if setup["status"] != "requires_action":
        raise _unexpected_state(setup, "authenticate")
    if agreed:
        _succeed(world, setup)
    else:
        _fail(world, setup, Answer("declined", "setup_intent_authentication_failure"))


def _succeed(world: World, setup: Json) -> None:
    method = world.books.get("payment_method", setup["payment_method"])
    if setup["customer"] is not None:
        attach(world, method, setup["customer"])
    world.books.facts[method["id"]]["set_up"] = True
    world.change(setup, status="succeeded", next_action=None, last_setup_error=None)
    world.emit("setup_intent.succeeded", setup)


def _fail(world: World, setup: Json, answer: Answer) -> StripeError:
    error = card_error(answer.code or "card_declined", answer.message, decline_code=answer.decline_code)
    kept = {name: value for name, value in error.fields.items() if value is not None}
    world.change(
        setup,
        status="requires_payment_method",
        payment_method=None,
        next_action=None,
        last_setup_error=kept,
    )
    world.emit("setup_intent.setup_failed", setup)
    error.fields["setup_intent"] = copy.deepcopy(setup)
    return error


@family.post("/v1/setup_intents/{id}/cancel", SetupIntentCancelParams)
def cancel_setup(world: World, call: Call) -> Json:
    setup = world.books.get("setup_intent", call["id"])
    _refuse_unless_open(setup, "cancel")
    reason = call.params.get("cancellation_reason")
    world.change(setup, status="canceled", cancellation_reason=reason, next_action=None)
    world.emit("setup_intent.canceled", setup)
    return setup


def _refuse_unless_open(setup: Json, verb: str) -> None:
    if setup["status"] not in _CONFIRMABLE:
        raise _unexpected_state(setup, verb)


def _unexpected_state(setup: Json, verb: str) -> StripeError:
    return refused(
        f"You cannot {verb} this SetupIntent because it has a status of {setup['status']}.",
        code="setup_intent_unexpected_state",
        setup_intent=copy.deepcopy(setup),
    )
