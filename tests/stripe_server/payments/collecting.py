"""The life of a PaymentIntent: confirmed, then paid, declined, under way or waiting for its payer."""

import copy
from typing import Any

from tests.stripe_server.payments.banks import AUTHENTICATION_REQUIRED, Answer, ask_bank
from tests.stripe_server.payments.charges import charge, settle
from tests.stripe_server.payments.payment_methods import attach
from tests.stripe_server.wire.errors import Json, StripeError, card_error, refused
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.world import World

_SMALLEST = {"gbp": 30, "hkd": 400, "cny": 400}
_SMALLEST_OTHERWISE = 50
_LARGEST = 99_999_999

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")


def smallest(currency: str) -> int:
    """The least that a card can carry, in minor units."""
    return _SMALLEST.get(currency, _SMALLEST_OTHERWISE)


def new_intent(world: World, amount: int, currency: str, **values: Any) -> Json:
    """An intent for so many minor units. Raises StripeError for amounts that no card can carry."""
    if amount < smallest(currency):
        message = f"Amount must be at least {smallest(currency)} {currency}"
        raise refused(message, param="amount", code="amount_too_small")
    if amount > _LARGEST:
        raise refused("Amount must be no more than $999,999.99", param="amount", code="amount_too_large")
    defaults: Json = {
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "capture_method": "automatic_async",
        "confirmation_method": "automatic",
        "currency": currency,
        "payment_method_options": {},
        "payment_method_types": ["card", "link", "alipay", "wechat_pay", "us_bank_account"],
        "status": "requires_payment_method",
    }
    intent = world.add("payment_intent", **(defaults | values))
    world.change(intent, client_secret=f"{intent['id']}_secret_{new_token()}")
    world.emit("payment_intent.created", intent)
    return intent


def attempt(
    world: World,
    intent: Json,
    method: Json,
    *,
    off_session: bool,
    park: bool = False,
    return_url: str | None = None,
) -> StripeError | None:
    """Try to collect; the error that a request confirming the intent is answered with, if any.

    `park`: who has to authenticate is waited for though they are away, as invoices do.
    """
    world.change(intent, payment_method=method["id"], next_action=None)
    answer = ask_bank(world, method, off_session=off_session)
    if park and answer.code == AUTHENTICATION_REQUIRED:
        answer = Answer("requires_action")
    match answer.status:
        case "succeeded":
            succeed(world, intent, charge(world, intent, method, answer))
        case "processing":
            made = charge(world, intent, method, answer)
            world.emit("charge.pending", made)
            world.change(intent, "payment_intent.processing", status="processing", latest_charge=made["id"])
        case "requires_action":
            _wait_for_payer(world, intent, return_url)
        case "declined":
            return fail(world, intent, method, answer)
    return None


def succeed(world: World, intent: Json, made: Json) -> None:
    """The money came: tell, and keep the method if that was agreed."""
    world.emit("charge.succeeded", made)
    method = world.books.get("payment_method", made["payment_method"])
    if intent["setup_future_usage"] is not None and intent["customer"] is not None:
        attach(world, method, intent["customer"])
        world.books.facts[method["id"]]["set_up"] = True
    elif method["customer"] is None:
        world.books.facts[method["id"]]["detached"] = True
    world.change(
        intent,
        amount_received=intent["amount"],
        last_payment_error=None,
        latest_charge=made["id"],
        next_action=None,
        status="succeeded",
    )
    world.emit("payment_intent.succeeded", intent)


def fail(world: World, intent: Json, method: Json, answer: Answer) -> StripeError:
    """The bank declined: the intent wants another method, and the charge that failed stays on record."""
    made = charge(world, intent, method, answer)
    world.emit("charge.failed", made)
    error = card_error(
        answer.code or "card_declined",
        answer.message,
        decline_code=answer.decline_code,
        charge=made["id"],
        payment_method=copy.deepcopy(method),
    )
    kept = {name: value for name, value in error.fields.items() if value is not None}
    world.change(
        intent,
        last_payment_error=kept,
        latest_charge=made["id"],
        next_action=None,
        payment_method=None,
        status="requires_payment_method",
    )
    world.emit("payment_intent.payment_failed", intent)
    error.fields["payment_intent"] = copy.deepcopy(intent)
    return error


def _wait_for_payer(world: World, intent: Json, return_url: str | None) -> None:
    url = f"{world.settings.url}/authenticate/{intent['id']}"
    action = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": return_url}}
    world.change(intent, status="requires_action", next_action=action)
    world.emit("payment_intent.requires_action", intent)


def authenticated(world: World, intent: Json, *, agreed: bool) -> None:
    """The payer has been to the bank's page. Raises StripeError if nothing waited for that."""
    if intent["status"] != "requires_action":
        raise _unexpected_state(intent, "authenticate")
    method = world.books.get("payment_method", intent["payment_method"])
    if agreed:
        succeed(world, intent, charge(world, intent, method, Answer("succeeded")))
    else:
        fail(world, intent, method, Answer("declined", "payment_intent_authentication_failure"))


def settled_later(world: World, intent: Json, *, succeeded: bool) -> None:
    """A bank that answers days later has answered. Raises StripeError if none was asked."""
    if intent["status"] != "processing":
        raise _unexpected_state(intent, "settle")
    made = world.books.get("charge", intent["latest_charge"])
    if succeeded:
        settle(world, made)
        succeed(world, intent, made)
        return
    answer = Answer("declined", "payment_intent_payment_attempt_failed", "generic_decline")
    world.change(made, status="failed", paid=False, failure_code=answer.code, failure_message=answer.message)
    world.emit("charge.failed", made)
    error = {"code": answer.code, "message": answer.message, "type": "card_error"}
    world.change(intent, last_payment_error=error, payment_method=None, status="requires_payment_method")
    world.emit("payment_intent.payment_failed", intent)


def cancel(world: World, intent: Json, reason: str | None = None) -> None:
    if intent["status"] not in CONFIRMABLE:
        raise _unexpected_state(intent, "cancel")
    world.change(
        intent, status="canceled", canceled_at=world.now(), cancellation_reason=reason, next_action=None
    )
    world.emit("payment_intent.canceled", intent)


def _unexpected_state(intent: Json, verb: str) -> StripeError:
    return refused(
        f"You cannot {verb} this PaymentIntent because it has a status of {intent['status']}.",
        code="payment_intent_unexpected_state",
        payment_intent=copy.deepcopy(intent),
    )


def refuse_unconfirmable(intent: Json) -> None:
    if intent["status"] not in CONFIRMABLE:
        raise _unexpected_state(intent, "confirm")
