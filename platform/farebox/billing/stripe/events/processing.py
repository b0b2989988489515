"""What is done about each event: the object that it names is read anew, and our books follow it.

To handle another kind of event, add a line to FOLLOWERS.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from farebox.billing.models_stripe import StripeEvent
from farebox.billing.stripe.account import Account
from farebox.billing.stripe.customers import follow_customer, follow_method
from farebox.billing.stripe.errors import DeadLetter, ProcessorRefused
from farebox.billing.stripe.events.inbox import note_failure, settle
from farebox.billing.stripe.reversals.disputes import follow_dispute
from farebox.billing.stripe.reversals.refunds import follow_refund, follow_refunds_of
from farebox.billing.stripe.settling import follow_intent, follow_invoice, follow_session
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.settings import Settings

# Given the id of an object: what it came to, or None where it is not ours.
Follower = Callable[[Database, Account, str], Awaitable[str | None]]

# By what the event's type begins with.
FOLLOWERS: Mapping[str, Follower] = {
    "checkout.session.": follow_session,
    "payment_intent.": follow_intent,
    "invoice.": follow_invoice,
    "refund.": follow_refund,
    "charge.refunded": follow_refunds_of,
    "charge.dispute.": follow_dispute,
    "payment_method.detached": follow_method,
    "customer.deleted": follow_customer,
}
# What Stripe is asked to tell, as its thin events are named.
TOLD = tuple(
    f"v1.{name}"
    for name in (
        "charge.dispute.closed",
        "charge.dispute.created",
        "charge.dispute.funds_reinstated",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
        "charge.refunded",
        "checkout.session.async_payment_failed",
        "checkout.session.async_payment_succeeded",
        "checkout.session.completed",
        "checkout.session.expired",
        "customer.deleted",
        "invoice.paid",
        "invoice.payment_action_required",
        "invoice.payment_failed",
        "invoice.voided",
        "payment_intent.payment_failed",
        "payment_intent.succeeded",
        "payment_method.detached",
        "refund.created",
        "refund.failed",
        "refund.updated",
    )
)
# About four days: what is not bound by then never is. While Stripe is away, nothing counts as tried.
TRIES = 100
NOT_OURS = "It is of nothing that Farebox sold."
NO_MATTER = "Nothing here depends on events of this type."

log = structlog.get_logger(__name__)


def follower_of(event_type: str) -> Follower | None:
    return next((follow for prefix, follow in FOLLOWERS.items() if event_type.startswith(prefix)), None)


async def process(account: Account, database: Database, settings: Settings, payload: dict[str, Any]) -> None:
    """The handler of the topic. Raises whatever another try may mend."""
    async with database.meter_transaction() as session:
        event = await session.get(StripeEvent, payload["event"])
    if event is None or event.state != "pending":
        return
    try:
        state, note = await _outcome(database, account, event)
    except Unavailable:
        raise
    except (DeadLetter, ProcessorRefused) as error:
        state, note = "dead", str(error)
    except Exception as error:
        async with database.meter_transaction() as session:
            tried = await note_failure(session, event.id, f"{type(error).__name__}: {error}"[:500])
        if tried < TRIES:
            raise
        state, note = "dead", f"{error}"
    async with database.meter_transaction() as session:
        await settle(session, event.id, state, note and note[:500])
    if state == "dead":
        log.error("stripe.dead_letter", event_id=event.id, type=event.type, reason=note)


async def _outcome(database: Database, account: Account, event: StripeEvent) -> tuple[str, str | None]:
    follow = follower_of(event.type)
    if follow is None or event.object_id is None:
        return "ignored", NO_MATTER
    came_to = await follow(database, account, event.object_id)
    return ("ignored", NOT_OURS) if came_to is None else ("done", came_to)
