"""Events as they are read: snapshots from v1, thin ones from v2."""

from stripe.params import EventListParams, EventRetrieveParams
from stripe.params.v2.core import EventListParams as ThinEventListParams
from stripe.params.v2.core import EventRetrieveParams as ThinEventRetrieveParams

from tests.stripe_server.webhooks.notices import thin_id, thin_retrieved
from tests.stripe_server.wire.answers import page_of, paged_v2
from tests.stripe_server.wire.errors import Json, missing
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.world.event_types import SNAPSHOTS, THIN_PREFIX, has_thin_form
from tests.stripe_server.world.world import World

family = Family()


@family.get("/v1/events", EventListParams)
def list_events(world: World, call: Call) -> Json:
    types = call.params.get("types", SNAPSHOTS & {call.params.get("type")} or SNAPSHOTS)
    return page_of(world, call, "event", where=lambda event: event["type"] in types)


@family.get("/v1/events/{id}", EventRetrieveParams)
def retrieve_event(world: World, call: Call) -> Json:
    return world.books.get("event", call["id"])


@family.get("/v2/core/events", ThinEventListParams)
def list_thin_events(world: World, call: Call) -> Json:
    wanted, about = call.params.get("types"), call.params.get("object_id")
    shown = [
        thin_retrieved(event)
        for event in world.books.newest_first("event")
        if has_thin_form(THIN_PREFIX + event["type"])
        and (wanted is None or THIN_PREFIX + event["type"] in wanted)
        and (about is None or event["data"]["object"]["id"] == about)
    ]
    return paged_v2(call, shown)


@family.get("/v2/core/events/{id}", ThinEventRetrieveParams)
def retrieve_thin_event(world: World, call: Call) -> Json:
    for event in world.books.newest_first("event"):
        if thin_id(event) == call["id"]:
            return thin_retrieved(event)
    raise missing("event", call["id"])
