"""Invoice payments: which PaymentIntent pays which invoice."""

from typing import Any

from stripe.params import InvoicePaymentListParams, InvoicePaymentRetrieveParams

from tests.stripe_server.payments.collecting import new_intent
from tests.stripe_server.wire.answers import listed, page_of
from tests.stripe_server.wire.errors import Json
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.world.world import World

family = Family()


def open_payment(world: World, invoice: Json) -> Json:
    """The intent that shall pay an invoice, and its place in the books."""
    intent = new_intent(
        world,
        invoice["amount_due"],
        invoice["currency"],
        customer=invoice["customer"],
        description=invoice["description"],
        metadata={},
        setup_future_usage=None,
    )
    tie(world, invoice, intent)
    return intent


def tie(world: World, invoice: Json, intent: Json) -> Json:
    """Note that an intent pays an invoice."""
    world.books.facts[intent["id"]]["invoice"] = invoice["id"]
    payment = world.add(
        "invoice_payment",
        amount_requested=intent["amount"],
        currency=invoice["currency"],
        invoice=invoice["id"],
        is_default=True,
        payment={"type": "payment_intent", "payment_intent": intent["id"]},
        status="open",
        status_transitions={},
    )
    world.books.facts[invoice["id"]].update(intent=intent["id"], payment=payment["id"])
    return payment


def settle_payment(world: World, invoice: Json, intent: Json) -> None:
    payment = world.books.get("invoice_payment", world.books.facts[invoice["id"]]["payment"])
    moved = {**payment["status_transitions"], "paid_at": world.now(invoice["customer"])}
    world.change(payment, status="paid", amount_paid=intent["amount_received"], status_transitions=moved)
    world.emit("invoice_payment.paid", payment)


def close_payment(world: World, invoice: Json) -> None:
    payment = world.books.get("invoice_payment", world.books.facts[invoice["id"]]["payment"])
    if payment["status"] == "open":
        moved = {**payment["status_transitions"], "canceled_at": world.now(invoice["customer"])}
        world.change(payment, status="canceled", status_transitions=moved)
        world.emit("invoice_payment.canceled", payment)


@family.get("/v1/invoice_payments", InvoicePaymentListParams)
def list_payments(world: World, call: Call) -> Json:
    wanted: dict[str, Any] = call.params.get("payment", {})
    return page_of(
        world,
        call,
        "invoice_payment",
        "invoice",
        "status",
        where=lambda payment: all(payment["payment"][name] == value for name, value in wanted.items()),
    )


@family.get("/v1/invoice_payments/{id}", InvoicePaymentRetrieveParams)
def retrieve_payment(world: World, call: Call) -> Json:
    return world.books.get("invoice_payment", call["id"])


@family.included("invoice", "payments")
def payments(world: World, invoice: Json) -> Json:
    rows = world.books.oldest_first("invoice_payment", invoice=invoice["id"])
    return listed(rows, f"/v1/invoice_payments?invoice={invoice['id']}")


@family.included("invoice", "confirmation_secret")
def confirmation_secret(world: World, invoice: Json) -> Any:
    identifier = world.books.facts[invoice["id"]].get("intent")
    if identifier is None:
        return None
    intent = world.books.get("payment_intent", identifier)
    return {"client_secret": intent["client_secret"], "type": "payment_intent"}
