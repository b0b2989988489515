"""Payment methods: test cards by token or number, and the others by their bare type."""

from typing import Any

from stripe.params import (
    PaymentMethodAttachParams,
    PaymentMethodCreateParams,
    PaymentMethodDetachParams,
    PaymentMethodListParams,
    PaymentMethodRetrieveParams,
    PaymentMethodUpdateParams,
)

from tests.stripe_server.payments.banks import CARDS, GOOD, KnownCard, card_numbered
from tests.stripe_server.wire.answers import page_of
from tests.stripe_server.wire.errors import Json, card_error, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.world import World

family = Family()

# Of each served type, its hash; for a card it is made of the test card.
_BARE_TYPES: dict[str, Json] = {
    "alipay": {},
    "link": {},
    "wechat_pay": {},
    "sepa_debit": {"last4": "3000", "country": "DE", "bank_code": "37040044"},
    "us_bank_account": {"last4": "6789", "bank_name": "STRIPE TEST BANK", "routing_number": "110000000"},
}


@family.post("/v1/payment_methods", PaymentMethodCreateParams)
def create_method(world: World, call: Call) -> Json:
    params = call.params
    if "type" not in params:
        raise refused("Missing required param: type.", param="type", code="parameter_missing")
    kind = params["type"]
    if kind not in params and kind not in ("alipay", "link", "wechat_pay"):
        raise refused(f"Missing required param: {kind}.", param=kind, code="parameter_missing")
    more = {name: params[name] for name in ("billing_details", "metadata") if name in params}
    if kind == "card":
        return new_card(world, _card_in(params["card"]), **more)
    return new_method(world, kind, **more)


def _card_in(details: Json) -> KnownCard:
    if "token" in details:
        return CARDS.get(details["token"].replace("tok_", "pm_card_"), GOOD)
    card = card_numbered(details["number"])
    if card is None:
        raise card_error("incorrect_number", "Your card number is incorrect.", param="number")
    return card


def new_card(world: World, card: KnownCard = GOOD, **values: Any) -> Json:
    details = {
        "brand": card.brand,
        "checks": {"cvc_check": "pass"},
        "country": "US",
        "display_brand": card.brand,
        "exp_month": 12,
        "exp_year": 2099,
        "fingerprint": new_token(16),
        "funding": "credit",
        "last4": card.number[-4:],
        "networks": {"available": [card.brand]},
        "three_d_secure_usage": {"supported": True},
    }
    method = _new(world, "card", details, **values)
    world.books.facts[method["id"]]["card"] = card
    return method


def new_method(world: World, kind: str, **values: Any) -> Json:
    """A method of a type that is no card. Raises StripeError for a type that is not served."""
    if kind not in _BARE_TYPES:
        raise refused(f"The payment method type {kind} is not activated for your account.", param="type")
    return _new(world, kind, _BARE_TYPES[kind], **values)


def _new(world: World, kind: str, details: Json, **values: Any) -> Json:
    defaults: Json = {"allow_redisplay": "unspecified", "billing_details": {"address": {}}, "customer": None}
    return world.add("payment_method", **(defaults | values | {"type": kind, kind: details}))


def usable_method(world: World, identifier: str, param: str = "payment_method") -> Json:
    """The method of that id; a test card's token makes a new one, as at Stripe."""
    if identifier in CARDS:
        return new_card(world, CARDS[identifier])
    return world.books.referred("payment_method", {param: identifier}, param)


@family.get("/v1/payment_methods", PaymentMethodListParams)
def list_methods(world: World, call: Call) -> Json:
    return page_of(world, call, "payment_method", "customer", "type", "allow_redisplay")


@family.get("/v1/payment_methods/{id}", PaymentMethodRetrieveParams)
def retrieve_method(world: World, call: Call) -> Json:
    return world.books.get("payment_method", call["id"])


@family.post("/v1/payment_methods/{id}", PaymentMethodUpdateParams)
def update_method(world: World, call: Call) -> Json:
    method = world.books.get("payment_method", call["id"])
    if method["customer"] is None:
        raise refused("You must save this PaymentMethod to a customer before you can update it.")
    changed = changes(method, call.params, "billing_details", "metadata", "allow_redisplay")
    if "card" in call.params:
        changed["card"] = {**method["card"], **call.params["card"]}
    world.change(method, "payment_method.updated", **changed)
    return method


@family.post("/v1/payment_methods/{id}/attach", PaymentMethodAttachParams)
def attach_method(world: World, call: Call) -> Json:
    method = world.books.get("payment_method", call["id"]) if call["id"] not in CARDS else None
    method = method or usable_method(world, call["id"])
    customer = world.books.referred("customer", call.params, "customer")
    attach(world, method, customer["id"])
    return method


def attach(world: World, method: Json, customer: str) -> None:
    """Raises StripeError where the bank declines even that, or somebody else has the method."""
    if method["customer"] != customer:
        refuse_unattachable(world, method)
        world.change(method, customer=customer)
        world.emit("payment_method.attached", method)


def refuse_unattachable(world: World, method: Json) -> None:
    facts = world.books.facts[method["id"]]
    card: KnownCard = facts.get("card", GOOD)
    if not card.attachable and card.decline is not None:
        code, decline_code = card.decline
        raise card_error(code, "Your card was declined.", decline_code=decline_code)
    if method["customer"] is not None or facts.get("detached"):
        raise refused("The payment method you provided has already been attached to a customer.")


@family.post("/v1/payment_methods/{id}/detach", PaymentMethodDetachParams)
def detach_method(world: World, call: Call) -> Json:
    method = world.books.get("payment_method", call["id"])
    if method["customer"] is None:
        message = "The payment method you provided is not attached to a customer so detachment is impossible."
        raise refused(message)
    detach(world, method)
    return method


def detach(world: World, method: Json) -> None:
    """A method once detached can be attached to nobody."""
    customer = world.books.get("customer", method["customer"])
    if customer["invoice_settings"]["default_payment_method"] == method["id"]:
        settings = {**customer["invoice_settings"], "default_payment_method": None}
        world.change(customer, "customer.updated", invoice_settings=settings)
    world.books.facts[method["id"]]["detached"] = True
    world.change(method, "payment_method.detached", customer=None)


def renew(world: World, method: Json, *, last4: str, exp_year: int) -> None:
    """The bank has sent its customer another card for the same account, and told Stripe."""
    card = {**method["card"], "last4": last4, "exp_year": exp_year}
    world.change(method, "payment_method.automatically_updated", card=card)


def method_of(world: World, customer: str | None, identifier: str, param: str = "payment_method") -> Json:
    """A method to pay with. Raises StripeError if it belongs to somebody else or was used up."""
    method = usable_method(world, identifier, param)
    if method["customer"] not in (None, customer):
        raise refused(
            f"The PaymentMethod {identifier} belongs to another Customer. Please include the Customer in the "
            "`customer` parameter.",
            param=param,
        )
    if world.books.facts[method["id"]].get("detached"):
        raise refused(
            "The provided PaymentMethod was previously used without being attached to a Customer or was "
            "detached from a Customer, and may not be used again. To use a PaymentMethod multiple times, you "
            "must attach it to a Customer first.",
            param=param,
        )
    return method
