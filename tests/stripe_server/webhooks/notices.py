"""The two forms an event travels in: a snapshot of its object (v1), or a thin notice to refetch it (v2)."""

import json
from datetime import UTC, datetime
from typing import Any

from tests.stripe_server.wire.errors import Json
from tests.stripe_server.world.event_types import THIN_PREFIX
from tests.stripe_server.world.kinds import KINDS


def thin_id(event: Json) -> str:
    """Thin events have ids of their own; here they are made of the snapshot's."""
    return str(event["id"]).replace("evt_", "evt_test_", 1)


def instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def thin(event: Json) -> Json:
    """The notice that is delivered, and what the Events v2 API answers."""
    thing = event["data"]["object"]
    return {
        "id": thin_id(event),
        "object": "v2.core.event",
        "type": THIN_PREFIX + event["type"],
        "created": instant(event["created"]),
        "livemode": event["livemode"],
        "context": event.get("account"),
        "reason": _reason(event["request"]),
        **({"related_object": related(thing)} if thing else {}),
    }


def thin_retrieved(event: Json) -> Json:
    return {**thin(event), "changes": None, "snapshot_event": event["id"]}


def _reason(request: Any) -> Json | None:
    if not request or request["id"] is None:
        return None
    return {
        "type": "request",
        "request": {"id": request["id"], "idempotency_key": request["idempotency_key"] or ""},
    }


def related(thing: Json) -> Json:
    kind = KINDS[thing["object"]]
    url = kind.url_of(thing["id"])
    if thing["object"] == "tax_id" and thing.get("customer"):
        url = f"/v1/customers/{thing['customer']}/tax_ids/{thing['id']}"
    return {"id": thing["id"], "type": thing["object"], "url": url}


def body_of(event: Json, payload: str) -> bytes:
    """`payload` is `thin` or `snapshot`, as a destination has it."""
    return json.dumps(thin(event) if payload == "thin" else event, indent=2).encode()
