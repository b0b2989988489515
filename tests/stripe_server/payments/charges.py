"""Charges, and what each movement of money leaves on the account's balance."""

from typing import Any

from stripe.params import (
    BalanceTransactionListParams,
    BalanceTransactionRetrieveParams,
    ChargeListParams,
    ChargeRetrieveParams,
    ChargeUpdateParams,
)

from tests.stripe_server.payments.banks import Answer
from tests.stripe_server.wire.answers import listed, page_of
from tests.stripe_server.wire.errors import Json
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.world import World

family = Family()

_TWO_DAYS = 2 * 24 * 3600
_SHOWN_OF_CARDS = ("brand", "checks", "country", "exp_month", "exp_year", "fingerprint", "funding", "last4")


def charge(world: World, intent: Json, method: Json, answer: Answer) -> Json:
    """One try to collect an intent's amount; `answer` is the bank's."""
    failed = answer.status == "declined"
    made = world.add(
        "charge",
        customer=intent["customer"],
        amount=intent["amount"],
        amount_captured=0 if failed else intent["amount"],
        amount_refunded=0,
        billing_details=method["billing_details"],
        calculated_statement_descriptor="STRIPE STAND-IN",
        captured=not failed,
        currency=intent["currency"],
        description=intent["description"],
        disputed=False,
        failure_code=answer.code,
        failure_message=answer.message if failed else None,
        fraud_details={},
        metadata=dict(intent["metadata"]),
        outcome=_outcome(answer),
        paid=not failed,
        payment_intent=intent["id"],
        payment_method=method["id"],
        payment_method_details=_details(method),
        receipt_email=intent["receipt_email"],
        refunded=False,
        status="failed" if failed else "pending" if answer.status == "processing" else "succeeded",
    )
    if made["status"] == "succeeded":
        settle(world, made)
    return made


def settle(world: World, made: Json) -> None:
    """The money is there: less the fee, it is the account's."""
    fee = world.fee(made["amount"])
    movement = move(world, made, made["amount"], "charge", fee=fee)
    receipt = f"{world.settings.url}/receipts/{made['id']}"
    world.change(made, status="succeeded", paid=True, balance_transaction=movement["id"], receipt_url=receipt)


def move(world: World, source: Json, amount: int, reason: str, *, fee: int = 0) -> Json:
    """A line of the balance; negative amounts leave it. `reason` is its type and reporting category."""
    details = {"amount": fee, "currency": source["currency"], "type": "stripe_fee"}
    now = world.now()
    return world.add(
        "balance_transaction",
        amount=amount,
        available_on=now + _TWO_DAYS,
        balance_type="payments",
        currency=source["currency"],
        description=source.get("description"),
        fee=fee,
        fee_details=[{**details, "description": "Stripe processing fees"}] if fee else [],
        net=amount - fee,
        reporting_category="dispute" if reason == "adjustment" else reason,
        source=source["id"],
        status="pending",
        type=reason,
    )


def _outcome(answer: Answer) -> Json:
    if answer.status == "declined":
        return {
            "network_status": "declined_by_network",
            "reason": answer.decline_code or answer.code,
            "risk_level": "normal",
            "seller_message": "The bank did not return any further details with this decline.",
            "type": "issuer_declined",
        }
    return {
        "network_status": "approved_by_network",
        "risk_level": "normal",
        "seller_message": "Payment complete.",
        "type": "authorized",
    }


def _details(method: Json) -> Json:
    kind = method["type"]
    if kind == "card":
        shown: dict[str, Any] = {name: method["card"][name] for name in _SHOWN_OF_CARDS}
        return {"type": "card", "card": {**shown, "network": method["card"]["brand"]}}
    shown = {name: value for name, value in method[kind].items() if name in ("last4", "bank_name", "country")}
    return {"type": kind, kind: shown}


@family.get("/v1/charges", ChargeListParams)
def list_charges(world: World, call: Call) -> Json:
    return page_of(world, call, "charge", "customer", "payment_intent")


@family.get("/v1/charges/{id}", ChargeRetrieveParams)
def retrieve_charge(world: World, call: Call) -> Json:
    return world.books.get("charge", call["id"])


@family.post("/v1/charges/{id}", ChargeUpdateParams)
def update_charge(world: World, call: Call) -> Json:
    made = world.books.get("charge", call["id"])
    changed = changes(made, call.params, "description", "metadata", "receipt_email", "fraud_details")
    world.change(made, "charge.updated", **changed)
    return made


@family.included("charge", "refunds")
def refunds(world: World, made: Json) -> Json:
    rows = world.books.oldest_first("refund", charge=made["id"])
    return listed(rows, f"/v1/charges/{made['id']}/refunds")


@family.get("/v1/balance_transactions", BalanceTransactionListParams)
def list_movements(world: World, call: Call) -> Json:
    return page_of(world, call, "balance_transaction", "source", "type", "currency")


@family.get("/v1/balance_transactions/{id}", BalanceTransactionRetrieveParams)
def retrieve_movement(world: World, call: Call) -> Json:
    return world.books.get("balance_transaction", call["id"])
