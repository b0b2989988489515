"""Refunds: all or part of a charge goes back to its payer."""

from typing import Any

from stripe import Refund
from stripe.params import (
    RefundCancelParams,
    RefundCreateParams,
    RefundListParams,
    RefundRetrieveParams,
    RefundUpdateParams,
)

from tests.stripe_server.payments.banks import DELAYED_TYPES
from tests.stripe_server.payments.charges import move
from tests.stripe_server.wire.answers import page_of
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family, Params
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.shapes import fields
from tests.stripe_server.world.world import World

family = Family()


@family.post("/v1/refunds", RefundCreateParams)
def create_refund(world: World, call: Call) -> Json:
    params = call.params
    charge = _charge(world, params)
    amount = params.get("amount", charge["amount"] - charge["amount_refunded"])
    metadata = params.get("metadata") or {}
    return refund(world, charge, amount, metadata=metadata, reason=params.get("reason"))


def _charge(world: World, params: Params) -> Json:
    if ("charge" in params) == ("payment_intent" in params):
        raise refused("One of the following params should be provided: `payment_intent` or `charge`.")
    if "charge" in params:
        return world.books.referred("charge", params, "charge")
    intent = world.books.referred("payment_intent", params, "payment_intent")
    charge = world.books.find(intent["latest_charge"] or "")
    if charge is None or charge["status"] != "succeeded":
        message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        raise refused(message, param="payment_intent")
    return charge


def refund(world: World, charge: Json, amount: int, **values: Any) -> Json:
    """Send so much of a charge back. Raises StripeError if that much is not left of it."""
    _refuse_too_much(charge, amount)
    kind = charge["payment_method_details"]["type"]
    made = world.add(
        "refund",
        customer=charge["customer"],
        amount=amount,
        charge=charge["id"],
        currency=charge["currency"],
        destination_details=_destination(kind),
        payment_intent=charge["payment_intent"],
        payment_method=charge["payment_method"],
        status="pending" if kind in DELAYED_TYPES else "succeeded",
        **values,
    )
    world.change(made, balance_transaction=move(world, made, -amount, "refund")["id"])
    refunded = charge["amount_refunded"] + amount
    world.change(charge, amount_refunded=refunded, refunded=refunded == charge["amount"])
    world.emit("charge.refunded", charge)
    world.emit("refund.created", made)
    return made


def _refuse_too_much(charge: Json, amount: int) -> None:
    if charge["disputed"]:
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise refused(message, code="charge_disputed")
    if charge["refunded"]:
        message = f"Charge {charge['id']} has already been refunded."
        raise refused(message, code="charge_already_refunded")
    if amount <= 0:
        raise refused("Invalid positive integer", param="amount", code="parameter_invalid_integer")
    left = charge["amount"] - charge["amount_refunded"]
    if amount > left:
        message = f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})"
        raise refused(message, param="amount")


def _destination(kind: str) -> Json:
    if kind not in fields(Refund.DestinationDetails):
        return {"type": kind}
    card = {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": "refund"}
    return {"type": kind, kind: card if kind == "card" else {}}


def fail(world: World, made: Json, reason: str) -> None:
    """The bank sent the money back to the account: the refund did not reach its payer."""
    charge = world.books.get("charge", made["charge"])
    returned = move(world, made, made["amount"], "refund_failure")
    world.change(charge, amount_refunded=charge["amount_refunded"] - made["amount"], refunded=False)
    world.change(made, status="failed", failure_reason=reason, failure_balance_transaction=returned["id"])
    world.emit("refund.failed", made)
    world.emit("refund.updated", made)


def arrive(world: World, made: Json) -> None:
    """A refund that was pending has reached its payer."""
    details = dict(made["destination_details"])
    if "card" in details:
        details["card"] = {**details["card"], "reference": new_token(), "reference_status": "available"}
    world.change(made, status="succeeded", destination_details=details)
    world.emit("refund.updated", made)


@family.get("/v1/refunds", RefundListParams)
def list_refunds(world: World, call: Call) -> Json:
    return page_of(world, call, "refund", "charge", "payment_intent")


@family.get("/v1/refunds/{id}", RefundRetrieveParams)
def retrieve_refund(world: World, call: Call) -> Json:
    return world.books.get("refund", call["id"])


@family.post("/v1/refunds/{id}", RefundUpdateParams)
def update_refund(world: World, call: Call) -> Json:
    made = world.books.get("refund", call["id"])
    world.change(made, "refund.updated", **changes(made, call.params, "metadata"))
    return made


@family.post("/v1/refunds/{id}/cancel", RefundCancelParams)
def cancel_refund(world: World, call: Call) -> Json:
    """Only those that wait for their payer can be canceled, and none served here does."""
    made = world.books.get("refund", call["id"])
    raise refused(f"You cannot cancel a refund with status {made['status']}.")
