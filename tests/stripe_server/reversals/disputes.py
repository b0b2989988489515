"""Disputes: a payer's bank takes a payment back, until it has decided."""

from typing import Any

from stripe.params import (
    DisputeCloseParams,
    DisputeListParams,
    DisputeRetrieveParams,
    DisputeUpdateParams,
)

from tests.stripe_server.payments.banks import GOOD, KnownCard
from tests.stripe_server.payments.charges import move
from tests.stripe_server.wire.answers import page_of
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes, merged_metadata
from tests.stripe_server.world.world import World

family = Family()

_FEE = 1500
_TIME_TO_ANSWER = 7 * 24 * 3600


def open_dispute(world: World, charge: Json, amount: int, reason: str) -> Json:
    """The bank withdraws the money at once. Raises StripeError if there is nothing to dispute."""
    if charge["disputed"] or not charge["paid"]:
        raise refused(f"Charge {charge['id']} cannot be disputed.")
    kind = charge["payment_method_details"]["type"]
    dispute = world.add(
        "dispute",
        amount=amount,
        balance_transactions=[],
        charge=charge["id"],
        currency=charge["currency"],
        enhanced_eligibility_types=[],
        evidence={"enhanced_evidence": {}},
        evidence_details={
            "due_by": world.now() + _TIME_TO_ANSWER,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
            "submission_method": "not_submitted",
        },
        is_charge_refundable=False,
        payment_intent=charge["payment_intent"],
        payment_method_details=_details(charge) if kind == "card" else None,
        reason=reason,
        status="needs_response",
    )
    world.change(charge, disputed=True)
    world.emit("charge.dispute.created", dispute)
    _move(world, dispute, -amount, _FEE)
    world.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def _details(charge: Json) -> Json:
    brand = charge["payment_method_details"]["card"]["brand"]
    card = {"brand": brand, "network": brand, "case_type": "chargeback", "network_reason_code": "10.4"}
    return {"type": "card", "card": card}


def _move(world: World, dispute: Json, amount: int, fee: int) -> None:
    movement = move(world, dispute, amount, "adjustment", fee=fee)
    world.change(dispute, balance_transactions=[*dispute["balance_transactions"], movement])


def decide(world: World, dispute: Json, *, won: bool) -> None:
    """The bank's last word. Raises StripeError if it has been said."""
    if dispute["status"] in ("won", "lost"):
        raise refused("This dispute is already closed", code="dispute_already_closed")
    world.change(dispute, status="won" if won else "lost")
    world.emit("charge.dispute.closed", dispute)
    if won:
        _move(world, dispute, dispute["amount"], -_FEE)
        world.emit("charge.dispute.funds_reinstated", dispute)


@family.listens("charge.succeeded")
def dispute_at_once(world: World, charge: Json) -> None:
    """Some test cards are disputed as soon as they have paid."""
    card: KnownCard = world.books.facts[charge["payment_method"]].get("card", GOOD)
    if card.disputed is not None:
        open_dispute(world, charge, charge["amount"], card.disputed)


@family.get("/v1/disputes", DisputeListParams)
def list_disputes(world: World, call: Call) -> Json:
    return page_of(world, call, "dispute", "charge", "payment_intent")


@family.get("/v1/disputes/{id}", DisputeRetrieveParams)
def retrieve_dispute(world: World, call: Call) -> Json:
    return world.books.get("dispute", call["id"])


@family.post("/v1/disputes/{id}", DisputeUpdateParams)
def update_dispute(world: World, call: Call) -> Json:
    dispute, params = world.books.get("dispute", call["id"]), call.params
    changed: dict[str, Any] = changes(dispute, params, "evidence")
    if "metadata" in params:
        changed["metadata"] = merged_metadata(dispute["metadata"], params["metadata"])
    details = dict(dispute["evidence_details"], has_evidence="evidence" in params)
    if params.get("submit", "evidence" in params):
        details |= {"submission_count": details["submission_count"] + 1, "submission_method": "manual"}
        changed["status"] = "under_review"
    world.change(dispute, "charge.dispute.updated", evidence_details=details, **changed)
    return dispute


@family.post("/v1/disputes/{id}/close", DisputeCloseParams)
def close_dispute(world: World, call: Call) -> Json:
    """To close one is to accept it: it is lost."""
    dispute = world.books.get("dispute", call["id"])
    decide(world, dispute, won=False)
    return dispute
