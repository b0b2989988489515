"""PaymentIntents as clients make, confirm and cancel them."""

from typing import Any

from stripe.params import (
    PaymentIntentCancelParams,
    PaymentIntentConfirmParams,
    PaymentIntentCreateParams,
    PaymentIntentListParams,
    PaymentIntentRetrieveParams,
    PaymentIntentUpdateParams,
)

from tests.stripe_server.payments.collecting import attempt, cancel, new_intent, refuse_unconfirmable
from tests.stripe_server.payments.payment_methods import method_of, new_method
from tests.stripe_server.wire.answers import page_of
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.world import World

family = Family()

_PLAIN = (
    "description",
    "metadata",
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
)


@family.post("/v1/payment_intents", PaymentIntentCreateParams)
def create_intent(world: World, call: Call) -> Json:
    params = call.params
    confirm, off_session = params.get("confirm", False), bool(params.get("off_session", False))
    if off_session and not confirm:
        raise refused("You may only specify `off_session` when `confirm` is `true`.", param="off_session")
    customer = world.books.referred("customer", params, "customer")["id"] if "customer" in params else None
    methods = params.get("automatic_payment_methods", {"enabled": True})
    methods.setdefault("allow_redirects", "always")
    if confirm:
        _refuse_no_way_back(params, methods, off_session=off_session)
    method = _method_in(world, customer, params)
    values = {name: params[name] for name in _PLAIN if name in params}
    intent = new_intent(
        world,
        params["amount"],
        params["currency"].lower(),
        automatic_payment_methods=methods,
        customer=customer,
        payment_method=method["id"] if method else None,
        status="requires_confirmation" if method else "requires_payment_method",
        **values,
    )
    return _confirmed(world, intent, params, method) if confirm else intent


def _refuse_no_way_back(params: Json, methods: Json, *, off_session: bool) -> None:
    redirects = methods["enabled"] and methods["allow_redirects"] == "always"
    if redirects and not off_session and "return_url" not in params:
        raise refused(
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard, some of "
            "which redirect your customer. You must provide a `return_url`.",
            param="return_url",
        )


def _method_in(world: World, customer: str | None, params: Json) -> Json | None:
    if "payment_method_data" in params:
        return new_method(world, params["payment_method_data"]["type"])
    return method_of(world, customer, params["payment_method"]) if "payment_method" in params else None


@family.get("/v1/payment_intents", PaymentIntentListParams)
def list_intents(world: World, call: Call) -> Json:
    return page_of(world, call, "payment_intent", "customer")


@family.get("/v1/payment_intents/{id}", PaymentIntentRetrieveParams)
def retrieve_intent(world: World, call: Call) -> Json:
    return world.books.get("payment_intent", call["id"])


@family.post("/v1/payment_intents/{id}", PaymentIntentUpdateParams)
def update_intent(world: World, call: Call) -> Json:
    intent = world.books.get("payment_intent", call["id"])
    changed: dict[str, Any] = changes(intent, call.params, *_PLAIN)
    if intent["status"] in ("requires_payment_method", "requires_confirmation"):
        changed |= changes(intent, call.params, "amount", "currency", "customer")
    world.change(intent, **changed)
    return intent


@family.post("/v1/payment_intents/{id}/confirm", PaymentIntentConfirmParams)
def confirm_intent(world: World, call: Call) -> Json:
    intent, params = world.books.get("payment_intent", call["id"]), call.params
    refuse_unconfirmable(intent)
    method = _method_in(world, intent["customer"], params)
    methods = intent["automatic_payment_methods"] or {"enabled": False}
    _refuse_no_way_back(params, methods, off_session=bool(params.get("off_session", False)))
    world.change(intent, **changes(intent, params, "receipt_email", "setup_future_usage", "shipping"))
    return _confirmed(world, intent, params, method)


def _confirmed(world: World, intent: Json, params: Json, method: Json | None) -> Json:
    if method is None and intent["payment_method"] is not None:
        method = world.books.get("payment_method", intent["payment_method"])
    if method is None:
        message = "You cannot confirm this PaymentIntent because it's missing a payment method."
        raise refused(message, code="payment_intent_unexpected_state", payment_intent=dict(intent))
    off_session = bool(params.get("off_session", False))
    error = attempt(world, intent, method, off_session=off_session, return_url=params.get("return_url"))
    if error is not None:
        raise error
    return intent


@family.post("/v1/payment_intents/{id}/cancel", PaymentIntentCancelParams)
def cancel_intent(world: World, call: Call) -> Json:
    intent = world.books.get("payment_intent", call["id"])
    cancel(world, intent, call.params.get("cancellation_reason"))
    return intent
