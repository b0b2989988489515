"""The pages that a payer meets: Checkout's, and the bank's where it asks them to agree."""

from html import escape

from tests.stripe_server.checkout.paying import Payer, submit
from tests.stripe_server.payments import collecting, setup_intents
from tests.stripe_server.payments.banks import CARDS, GOOD
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.pages import (
    Fields,
    Page,
    SentOn,
    Shown,
    button,
    choice,
    form,
    text_field,
)
from tests.stripe_server.world.world import World

_METHODS = {
    "card": "Card",
    "alipay": "Alipay",
    "wechat_pay": "WeChat Pay",
    "us_bank_account": "US bank account (answers days later)",
    "sepa_debit": "SEPA debit (answers days later)",
}
_DECLINED = "4000000000000002"


def checkout_shown(world: World, identifier: str) -> Shown:
    session = world.books.get("checkout.session", identifier)
    intent = _pending(world, session)
    if intent is not None:
        buttons = form(button("bank_pays", "The bank pays"), button("bank_refuses", "The bank refuses"))
        return Shown("The bank has not answered yet", buttons)
    if session["status"] != "open":
        return Shown(f"This session is {session['status']}", "<p>Nothing is to be done here.</p>")
    return _open_checkout(session)


def _open_checkout(session: Json, error: str = "") -> Shown:
    due = "Save a card" if session["mode"] == "setup" else f"{session['amount_total']} {session['currency']}"
    alert = f'<p role="alert">{escape(error)}</p>' if error else ""
    cards = {card.number: f"{card.number} {token}" for token, card in CARDS.items()}
    fields = form(
        text_field("email", "Email", session["customer_email"] or Payer.email, "email"),
        text_field("name", "Name", Payer.name),
        choice("method", "Method", _METHODS),
        choice("card", "Card", cards),
        button("pay", "Pay"),
        button("decline", "Be declined"),
        button("abandon", "Go back"),
    )
    return Shown("Checkout", f"{alert}<p>{escape(due)}</p>{fields}", 402 if error else 200)


def _pending(world: World, session: Json) -> Json | None:
    if session["payment_intent"] is None:
        return None
    intent = world.books.get("payment_intent", session["payment_intent"])
    return intent if intent["status"] == "processing" else None


def checkout_posted(world: World, identifier: str, fields: Fields) -> Shown | SentOn:
    session = world.books.get("checkout.session", identifier)
    match fields.get("action", "pay"):
        case "abandon":
            return SentOn(session["cancel_url"] or session["success_url"])
        case "bank_pays" | "bank_refuses" as said:
            intent = _pending(world, session)
            if intent is None:
                raise refused("No bank has been asked.")
            collecting.settled_later(world, intent, succeeded=said == "bank_pays")
            return checkout_shown(world, identifier)
        case "decline":
            fields = {**fields, "method": "card", "card": _DECLINED}
    error = submit(world, session, _payer(fields))
    if error is not None:
        return _open_checkout(session, str(error))
    return SentOn(_next_stop(world, session))


def _payer(fields: Fields) -> Payer:
    return Payer(
        method=fields.get("method", "card"),
        card=fields.get("card", GOOD.number),
        email=fields.get("email", Payer.email),
        name=fields.get("name", Payer.name),
    )


def _next_stop(world: World, session: Json) -> str:
    intent = world.books.find(session["payment_intent"] or session["setup_intent"] or "")
    if intent is not None and intent["next_action"] is not None:
        return str(intent["next_action"]["redirect_to_url"]["url"])
    return success_url(session)


def success_url(session: Json) -> str:
    url = session["success_url"] or session["return_url"]
    return str(url).replace("{CHECKOUT_SESSION_ID}", session["id"])


def authentication_shown(world: World, identifier: str) -> Shown:
    intent = _intent(world, identifier)
    if intent["status"] != "requires_action":
        return Shown("Nothing waits for you", "<p>Your bank asks nothing.</p>")
    return Shown("Your bank asks", form(button("agree", "Agree"), button("refuse", "Refuse")))


def authentication_posted(world: World, identifier: str, fields: Fields) -> Shown | SentOn:
    intent, agreed = _intent(world, identifier), fields.get("action") == "agree"
    action = intent["next_action"] or {}
    if intent["object"] == "payment_intent":
        collecting.authenticated(world, intent, agreed=agreed)
    else:
        setup_intents.authenticated(world, intent, agreed=agreed)
    return _back(world, intent, action.get("redirect_to_url", {}).get("return_url"))


def _back(world: World, intent: Json, return_url: str | None) -> Shown | SentOn:
    session = world.books.find(world.books.facts[intent["id"]].get("checkout", ""))
    if session is not None and session["status"] == "complete":
        return SentOn(success_url(session))
    if return_url is not None:
        return SentOn(return_url)
    return Shown("Thank you", "<p>You can close this page.</p>")


def _intent(world: World, identifier: str) -> Json:
    kind = "payment_intent" if identifier.startswith("pi_") else "setup_intent"
    return world.books.get(kind, identifier)


PAGES = [
    Page("/c/pay", checkout_shown, checkout_posted),
    Page("/authenticate", authentication_shown, authentication_posted),
]
