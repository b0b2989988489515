"""Meters and their events: usage, each event once by its identifier."""

from decimal import Decimal, InvalidOperation
from typing import Any

import stripe
from stripe.params.billing import (
    MeterCreateParams,
    MeterDeactivateParams,
    MeterEventCreateParams,
    MeterEventSummaryListParams,
    MeterListParams,
    MeterReactivateParams,
    MeterRetrieveParams,
    MeterUpdateParams,
)

from tests.stripe_server.wire.answers import listed, page_of
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family, Params
from tests.stripe_server.wire.updates import changes
from tests.stripe_server.world.books import new_token
from tests.stripe_server.world.shapes import complete
from tests.stripe_server.world.world import World

family = Family()

_KIND = "billing.meter"
_OLDEST, _NEWEST = 35 * 24 * 3600, 5 * 60
_REMEMBERED = 24 * 3600


@family.post("/v1/billing/meters", MeterCreateParams)
def create_meter(world: World, call: Call) -> Json:
    params = call.params
    if world.books.oldest_first(_KIND, event_name=params["event_name"], status="active"):
        raise refused(
            f"A meter with event name {params['event_name']} is active already.", param="event_name"
        )
    mapping = params.get("customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"})
    meter = world.add(
        _KIND,
        customer_mapping=mapping,
        default_aggregation=params["default_aggregation"],
        display_name=params["display_name"],
        event_name=params["event_name"],
        event_time_window=params.get("event_time_window"),
        status="active",
        status_transitions={},
        updated=world.now(),
        value_settings=params.get("value_settings", {"event_payload_key": "value"}),
    )
    world.emit("billing.meter.created", meter)
    return meter


@family.get("/v1/billing/meters", MeterListParams)
def list_meters(world: World, call: Call) -> Json:
    return page_of(world, call, _KIND, "status")


@family.get("/v1/billing/meters/{id}", MeterRetrieveParams)
def retrieve_meter(world: World, call: Call) -> Json:
    return world.books.get(_KIND, call["id"])


@family.post("/v1/billing/meters/{id}", MeterUpdateParams)
def update_meter(world: World, call: Call) -> Json:
    meter = world.books.get(_KIND, call["id"])
    named: dict[str, Any] = changes(meter, call.params, "display_name")
    world.change(meter, "billing.meter.updated", updated=world.now(), **named)
    return meter


@family.post("/v1/billing/meters/{id}/deactivate", MeterDeactivateParams)
def deactivate_meter(world: World, call: Call) -> Json:
    meter = world.books.get(_KIND, call["id"])
    world.change(meter, status="inactive", status_transitions={"deactivated_at": world.now()})
    world.emit("billing.meter.deactivated", meter)
    return meter


@family.post("/v1/billing/meters/{id}/reactivate", MeterReactivateParams)
def reactivate_meter(world: World, call: Call) -> Json:
    meter = world.books.get(_KIND, call["id"])
    world.change(meter, status="active", status_transitions={})
    world.emit("billing.meter.reactivated", meter)
    return meter


@family.post("/v1/billing/meter_events", MeterEventCreateParams)
def create_event(world: World, call: Call) -> Json:
    """Taken now and counted later: an unknown customer shows in an error report, not here."""
    params, now = call.params, world.now()
    meter = _meter_named(world, params["event_name"])
    at = params.get("timestamp", now)
    if not now - _OLDEST <= at <= now + _NEWEST:
        message = "The timestamp must be within the past 35 calendar days or up to 5 minutes in the future."
        raise refused(message, param="timestamp", code="timestamp_too_far_in_past")
    _refuse_bad_payload(meter, params)
    identifier = params.get("identifier", new_token())
    _refuse_repeated(world, identifier, now)
    values: Json = {
        "object": "billing.meter_event",
        "created": now,
        "event_name": params["event_name"],
        "identifier": identifier,
        "livemode": False,
        "payload": params["payload"],
        "timestamp": at,
    }
    world.books.facts[meter["id"]].setdefault("events", []).append(values)
    return complete(stripe.billing.MeterEvent, values)


def _meter_named(world: World, name: str) -> Json:
    for meter in world.books.oldest_first(_KIND, event_name=name, status="active"):
        return meter
    raise refused(f"No active meter found for event name {name}.", param="event_name", code="no_meter")


def _refuse_bad_payload(meter: Json, params: Params) -> None:
    for setting in ("customer_mapping", "value_settings"):
        key = meter[setting]["event_payload_key"]
        counts = setting == "value_settings" and meter["default_aggregation"]["formula"] != "count"
        if key not in params["payload"] and (setting == "customer_mapping" or counts):
            raise refused(f"Missing required payload key: {key}", param=f"payload[{key}]")
        if counts:
            _refuse_unless_whole(params["payload"][key], key)


def _refuse_unless_whole(value: str, key: str) -> None:
    try:
        whole = Decimal(value) == Decimal(value).to_integral_value()
    except InvalidOperation:
        whole = False
    if not whole:
        raise refused(f"Invalid meter event value: {value}", param=f"payload[{key}]")


def _refuse_repeated(world: World, identifier: str, now: int) -> None:
    taken: dict[str, int] = world.books.facts["billing.meter_event"].setdefault("taken", {})
    if identifier in taken and now - taken[identifier] < _REMEMBERED:
        raise refused(
            f"An event already exists with identifier {identifier}.",
            param="identifier",
            code="duplicate_meter_event",
        )
    taken[identifier] = now


@family.get("/v1/billing/meters/{id}/event_summaries", MeterEventSummaryListParams)
def list_summaries(world: World, call: Call) -> Json:
    """One sum for the whole window."""
    meter, params = world.books.get(_KIND, call["id"]), call.params
    customer_key = meter["customer_mapping"]["event_payload_key"]
    events = [
        event
        for event in world.books.facts[meter["id"]].get("events", [])
        if event["payload"][customer_key] == params["customer"]
        and params["start_time"] <= event["timestamp"] < params["end_time"]
    ]
    summary = complete(
        stripe.billing.MeterEventSummary,
        {
            "id": f"mtrusg_{new_token()}",
            "object": "billing.meter_event_summary",
            "aggregated_value": _aggregated(meter, events),
            "end_time": params["end_time"],
            "livemode": False,
            "meter": meter["id"],
            "start_time": params["start_time"],
        },
    )
    return listed([summary], call.path)


def _aggregated(meter: Json, events: list[Json]) -> float:
    formula, key = meter["default_aggregation"]["formula"], meter["value_settings"]["event_payload_key"]
    if formula == "count":
        return float(len(events))
    values = [float(event["payload"][key]) for event in events]
    return sum(values) if formula == "sum" else (values[-1:] or [0.0])[0]
