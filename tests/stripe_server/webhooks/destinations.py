"""Where events go: v2 event destinations, thin or snapshot, and v1 webhook endpoints."""

from typing import Any

from stripe.params import (
    WebhookEndpointCreateParams,
    WebhookEndpointDeleteParams,
    WebhookEndpointListParams,
    WebhookEndpointRetrieveParams,
    WebhookEndpointUpdateParams,
)
from stripe.params.v2.core import (
    EventDestinationCreateParams,
    EventDestinationDeleteParams,
    EventDestinationDisableParams,
    EventDestinationEnableParams,
    EventDestinationListParams,
    EventDestinationPingParams,
    EventDestinationRetrieveParams,
    EventDestinationUpdateParams,
)

from tests.stripe_server.webhooks.notices import instant
from tests.stripe_server.wire.answers import deleted, page_of, paged_v2
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.event_types import SNAPSHOTS, has_thin_form
from tests.stripe_server.world.world import World

family = Family()

_DESTINATION, _ENDPOINT = "v2.core.event_destination", "webhook_endpoint"
_PATH = "/v2/core/event_destinations"


@family.post(_PATH, EventDestinationCreateParams)
def create_destination(world: World, call: Call) -> Json:
    _refuse_bad_destination(call.params)
    return _with_included(world, new_destination(world, call.params), call.params)


def new_destination(world: World, params: Json, secret: str | None = None) -> Json:
    """`secret` signs what is sent there; one is made otherwise."""
    now = instant(world.now())
    destination = world.books.add(
        _DESTINATION,
        now,
        updated=now,
        name=params["name"],
        description=params.get("description", ""),
        enabled_events=params["enabled_events"],
        event_payload=params["event_payload"],
        events_from=params.get("events_from", ["@self"]),
        metadata=params.get("metadata", {}),
        status="enabled",
        type="webhook_endpoint",
        webhook_endpoint={},
        **{name: params[name] for name in ("snapshot_api_version",) if name in params},
    )
    facts = {"url": params["webhook_endpoint"]["url"], "signing_secret": secret or f"whsec_{new_token(32)}"}
    world.books.facts[destination["id"]].update(facts)
    return destination


def _refuse_bad_destination(params: Json) -> None:
    if params["type"] != "webhook_endpoint" or "webhook_endpoint" not in params:
        raise refused("Only destinations of type webhook_endpoint are served here.", param="type")
    thin = params["event_payload"] == "thin"
    if thin == ("snapshot_api_version" in params):
        raise refused("snapshot_api_version goes with snapshot payloads.", param="snapshot_api_version")
    _refuse_unknown_events(params["enabled_events"], thin=thin)


def _refuse_unknown_events(names: list[str], *, thin: bool) -> None:
    for name in names:
        known = has_thin_form(name) if thin else name in SNAPSHOTS
        if not known and name != "*":
            raise refused(f"Invalid event type: {name}", param="enabled_events")


def _with_included(world: World, destination: Json, params: Json) -> Json:
    """The URL and the secret are shown to those who ask; the secret at creation only."""
    asked = [name.partition(".")[2] for name in params.get("include", [])]
    facts = world.books.facts[destination["id"]]
    return {**destination, "webhook_endpoint": {name: facts[name] for name in asked}}


@family.get(_PATH, EventDestinationListParams)
def list_destinations(world: World, call: Call) -> Json:
    rows = world.books.newest_first(_DESTINATION)
    return paged_v2(call, [_with_included(world, row, call.params) for row in rows])


@family.get(_PATH + "/{id}", EventDestinationRetrieveParams)
def retrieve_destination(world: World, call: Call) -> Json:
    return _with_included(world, world.books.get(_DESTINATION, call["id"]), call.params)


@family.post(_PATH + "/{id}", EventDestinationUpdateParams)
def update_destination(world: World, call: Call) -> Json:
    destination = world.books.get(_DESTINATION, call["id"])
    params = call.params
    thin = destination["event_payload"] == "thin"
    _refuse_unknown_events(params.get("enabled_events", []), thin=thin)
    world.books.facts[call["id"]].update(params.get("webhook_endpoint", {}))
    named = changes(destination, params, "name", "description", "enabled_events", "metadata")
    world.change(destination, updated=instant(world.now()), **named)
    return _with_included(world, destination, params)


@family.post(_PATH + "/{id}/disable", EventDestinationDisableParams)
def disable_destination(world: World, call: Call) -> Json:
    return _switch(world, call, "disabled")


@family.post(_PATH + "/{id}/enable", EventDestinationEnableParams)
def enable_destination(world: World, call: Call) -> Json:
    return _switch(world, call, "enabled")


def _switch(world: World, call: Call, status: str) -> Json:
    destination = world.books.get(_DESTINATION, call["id"])
    world.change(destination, status=status, updated=instant(world.now()))
    return destination


@family.delete(_PATH + "/{id}", EventDestinationDeleteParams)
def delete_destination(world: World, call: Call) -> Json:
    destination = world.books.get(_DESTINATION, call["id"])
    world.books.remove(_DESTINATION, call["id"])
    return {"id": destination["id"], "object": _DESTINATION}


@family.post(_PATH + "/{id}/ping", EventDestinationPingParams)
def ping_destination(world: World, call: Call) -> Json:
    """Answers with the event that would be sent; nothing is, as its type has no v1 form."""
    destination = world.books.get(_DESTINATION, call["id"])
    return {
        "id": f"evt_test_{new_token()}",
        "object": "v2.core.event",
        "type": "v2.core.event_destination.ping",
        "created": instant(world.now()),
        "livemode": False,
        "context": None,
        "reason": None,
        "changes": None,
        "snapshot_event": None,
        "related_object": {"id": call["id"], "type": _DESTINATION, "url": f"{_PATH}/{destination['id']}"},
    }


@family.post("/v1/webhook_endpoints", WebhookEndpointCreateParams)
def create_endpoint(world: World, call: Call) -> Json:
    params = call.params
    endpoint = world.add(
        _ENDPOINT,
        url=params["url"],
        enabled_events=params["enabled_events"],
        description=params.get("description") or None,
        api_version=params.get("api_version"),
        metadata=params.get("metadata") or {},
        status="enabled",
    )
    secret = f"whsec_{new_token(32)}"
    world.books.facts[endpoint["id"]].update({"url": params["url"], "signing_secret": secret})
    return {**endpoint, "secret": secret}


@family.get("/v1/webhook_endpoints", WebhookEndpointListParams)
def list_endpoints(world: World, call: Call) -> Json:
    return page_of(world, call, _ENDPOINT)


@family.get("/v1/webhook_endpoints/{id}", WebhookEndpointRetrieveParams)
def retrieve_endpoint(world: World, call: Call) -> Json:
    return world.books.get(_ENDPOINT, call["id"])


@family.post("/v1/webhook_endpoints/{id}", WebhookEndpointUpdateParams)
def update_endpoint(world: World, call: Call) -> Json:
    endpoint = world.books.get(_ENDPOINT, call["id"])
    named: dict[str, Any] = changes(endpoint, call.params, "url", "enabled_events", "description", "metadata")
    if "disabled" in call.params:
        named["status"] = "disabled" if call.params["disabled"] else "enabled"
    world.change(endpoint, **named)
    world.books.facts[call["id"]]["url"] = endpoint["url"]
    return endpoint


@family.delete("/v1/webhook_endpoints/{id}", WebhookEndpointDeleteParams)
def delete_endpoint(world: World, call: Call) -> Json:
    endpoint = world.books.get(_ENDPOINT, call["id"])
    world.books.remove(_ENDPOINT, call["id"])
    return deleted(endpoint)
