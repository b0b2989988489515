"""Which destinations an event goes to, and in which form."""

from tests.stripe_server.webhooks.notices import body_of, thin_id
from tests.stripe_server.webhooks.outbox import Delivery, Outbox
from tests.stripe_server.wire.errors import Json
from tests.stripe_server.world.event_types import SNAPSHOTS, THIN_PREFIX, has_thin_form
from tests.stripe_server.world.world import World

_KINDS = ("v2.core.event_destination", "webhook_endpoint")


def dispatch(world: World, outbox: Outbox, event: Json) -> None:
    """One delivery for each destination that asked for the event's type."""
    for kind in _KINDS:
        for destination in world.books.oldest_first(kind, status="enabled"):
            if _wants(destination, event["type"]):
                event["pending_webhooks"] += 1
                outbox.put(delivery_to(world, destination, event))


def _wants(destination: Json, event_type: str) -> bool:
    wanted = destination["enabled_events"]
    if destination.get("event_payload") != "thin":
        return event_type in SNAPSHOTS and (event_type in wanted or "*" in wanted)
    name = THIN_PREFIX + event_type
    return has_thin_form(name) and (name in wanted or "*" in wanted)


def delivery_to(world: World, destination: Json, event: Json) -> Delivery:
    payload = destination.get("event_payload", "snapshot")
    facts = world.books.facts[destination["id"]]
    return Delivery(
        event_id=thin_id(event) if payload == "thin" else event["id"],
        event_type=event["type"],
        destination=destination["id"],
        url=facts["url"],
        secret=facts["signing_secret"],
        body=body_of(event, payload),
    )
