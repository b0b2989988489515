"""What happens on a Checkout page: somebody pays, is declined, or goes to their bank first."""

from dataclasses import dataclass

from tests.stripe_server.checkout.amounts import put_tax, totals
from tests.stripe_server.invoicing.after_payment import invoice_for
from tests.stripe_server.invoicing.items import new_item
from tests.stripe_server.invoicing.lines import pricing_of
from tests.stripe_server.payments.banks import GOOD, card_numbered
from tests.stripe_server.payments.collecting import attempt, new_intent
from tests.stripe_server.payments.customers import new_customer
from tests.stripe_server.payments.payment_methods import attach, new_card, new_method
from tests.stripe_server.payments.setup_intents import try_setup
from tests.stripe_server.subscriptions.starting import start
from tests.stripe_server.wire.errors import Json, StripeError, refused
from tests.stripe_server.wire.routing import Family
from tests.stripe_server.world.world import World, minor

family = Family()

_ADDRESS = {"country": "US", "line1": "354 Oyster Point Blvd", "city": "South San Francisco", "state": "CA"}


@dataclass(frozen=True)
class Payer:
    """What is typed in: `method` is a payment method's type, `card` a number if it is a card.

    `currency` is the payer's own, where adaptive pricing offers it.
    """

    method: str = "card"
    card: str = GOOD.number
    email: str = "payer@example.com"
    name: str = "Pat Payer"
    currency: str | None = None


def submit(world: World, session: Json, payer: Payer) -> StripeError | None:
    """The page's button: the error that it shows, if any. Raises StripeError if the session is not open."""
    if session["status"] != "open":
        raise refused(f"This Checkout Session is {session['status']}.")
    if payer.currency is not None:
        _present(world, session, payer.currency)
    _fill_in(world, session, payer)
    method = _method(world, payer)
    match session["mode"]:
        case "payment":
            return _pay(world, session, method)
        case "setup":
            setup = world.books.get("setup_intent", session["setup_intent"])
            world.change(setup, customer=session["customer"])
            return try_setup(world, setup, method, return_url=_here(world, session))
        case _:
            return _subscribe(world, session, method)


def _present(world: World, session: Json, currency: str) -> None:
    """Let the payer pay in their own currency: what the session comes to stays as it is."""
    if not session["adaptive_pricing"]["enabled"]:
        raise refused("This Checkout Session has no adaptive pricing.")
    amount = minor(session["amount_total"] * world.settings.exchange_rate)
    details = {"presentment_amount": amount, "presentment_currency": currency}
    world.change(session, presentment_details=details)


def _fill_in(world: World, session: Json, payer: Payer) -> None:
    """The payer's details; with an address, tax is known too."""
    facts = world.books.facts[session["id"]]
    customer = _customer(world, session, payer)
    if session["automatic_tax"]["status"] == "requires_location_inputs":
        put_tax(world, facts["lines"])
        world.change(
            session,
            automatic_tax={**session["automatic_tax"], "status": "complete"},
            **totals(facts["lines"]),
        )
    if customer and facts.get("customer_update", {}).get("address") == "auto":
        world.change(customer, "customer.updated", address=_ADDRESS)
    details: Json = {
        "address": _ADDRESS,
        "email": (customer or {}).get("email") or session["customer_email"] or payer.email,
        "name": payer.name,
        "tax_exempt": "none",
        "tax_ids": [],
    }
    world.change(session, customer_details=details, collected_information={})


def _customer(world: World, session: Json, payer: Payer) -> Json | None:
    if session["customer"] is not None:
        return world.books.get("customer", session["customer"])
    intent_data = world.books.facts[session["id"]].get("payment_intent_data", {})
    guest = session["customer_creation"] == "if_required" and "setup_future_usage" not in intent_data
    if guest:
        return None
    email = session["customer_email"] or payer.email
    customer = new_customer(world, email=email, name=payer.name, address=_ADDRESS)
    world.emit("customer.created", customer)
    world.change(session, customer=customer["id"])
    return customer


def _method(world: World, payer: Payer) -> Json:
    details = {"address": _ADDRESS, "email": payer.email, "name": payer.name}
    if payer.method != "card":
        return new_method(world, payer.method, billing_details=details)
    card = card_numbered(payer.card)
    if card is None:
        raise refused("Your card number is incorrect.", code="incorrect_number")
    return new_card(world, card, billing_details=details)


def _pay(world: World, session: Json, method: Json) -> StripeError | None:
    intent = _intent(world, session)
    return attempt(world, intent, method, off_session=False, return_url=_here(world, session))


def _here(world: World, session: Json) -> str:
    return f"{world.settings.url}/c/pay/{session['id']}"


def _intent(world: World, session: Json) -> Json:
    """The session's intent: made when somebody first tries to pay."""
    if session["payment_intent"] is not None:
        return world.books.get("payment_intent", session["payment_intent"])
    data = world.books.facts[session["id"]].get("payment_intent_data", {})
    amount, currency = session["amount_total"], session["currency"]
    intent = new_intent(world, amount, currency, customer=session["customer"], **data)
    world.books.facts[intent["id"]]["checkout"] = session["id"]
    world.change(session, payment_intent=intent["id"])
    return intent


def _subscribe(world: World, session: Json, method: Json) -> StripeError | None:
    """The subscription that the session is for; one that is not paid at once does not come about."""
    identifier = session["id"]
    try:
        with world.all_or_nothing():
            subscription = _started(world, session, method)
    except StripeError as error:
        return error
    session = world.books.get("checkout.session", identifier)
    invoice = world.books.get("invoice", subscription["latest_invoice"])
    world.change(
        session,
        invoice=invoice["id"],
        payment_status="paid" if invoice["total"] else "no_payment_required",
        status="complete",
        subscription=subscription["id"],
        url=None,
    )
    world.emit("checkout.session.completed", session)
    return None


def _started(world: World, session: Json, method: Json) -> Json:
    """Lines that do not recur go on its first invoice."""
    customer = world.books.get("customer", session["customer"])
    facts = world.books.facts[session["id"]]
    attach(world, method, customer["id"])
    recurring = [line for line in facts["lines"] if line["price"]["type"] == "recurring"]
    for line in facts["lines"]:
        if line not in recurring:
            _bill_once(world, customer["id"], line)
    params = {
        "automatic_tax": {"enabled": session["automatic_tax"]["enabled"]},
        "default_payment_method": method["id"],
        "items": [{"price": line["price"]["id"], "quantity": line["quantity"]} for line in recurring],
        "payment_behavior": "error_if_incomplete",
        **facts.get("subscription_data", {}),
    }
    return start(world, customer, params)


def _bill_once(world: World, customer: str, line: Json) -> None:
    new_item(
        world,
        customer,
        amount=line["amount_subtotal"],
        currency=line["currency"],
        description=line["description"],
        pricing=pricing_of(line["price"]),
        quantity=line["quantity"],
        quantity_decimal=str(line["quantity"]),
    )


@family.listens("payment_intent.succeeded")
def note_payment(world: World, intent: Json) -> None:
    session = _session_of(world, intent)
    if session is None:
        return
    late = session["status"] == "complete"
    if session["invoice_creation"]["enabled"]:
        lines = world.books.facts[session["id"]]["lines"]
        world.change(session, invoice=invoice_for(world, session, lines, intent)["id"])
    world.change(session, payment_status="paid", status="complete", url=None)
    world.emit("checkout.session.async_payment_succeeded" if late else "checkout.session.completed", session)


@family.listens("payment_intent.processing")
def note_delay(world: World, intent: Json) -> None:
    session = _session_of(world, intent)
    if session is not None:
        world.change(session, status="complete", url=None)
        world.emit("checkout.session.completed", session)


@family.listens("payment_intent.payment_failed")
def note_failure(world: World, intent: Json) -> None:
    session = _session_of(world, intent)
    if session is not None and session["status"] == "complete":
        world.emit("checkout.session.async_payment_failed", session)


@family.listens("setup_intent.succeeded")
def note_setup(world: World, setup: Json) -> None:
    session = _session_of(world, setup)
    if session is not None:
        world.change(session, status="complete", url=None)
        world.emit("checkout.session.completed", session)


def _session_of(world: World, intent: Json) -> Json | None:
    identifier = world.books.facts[intent["id"]].get("checkout")
    return world.books.get("checkout.session", identifier) if identifier else None
