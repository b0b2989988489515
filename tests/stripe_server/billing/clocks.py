"""Test clocks: a customer's own time, which goes when it is told to."""

from stripe.params.test_helpers import (
    TestClockAdvanceParams,
    TestClockCreateParams,
    TestClockDeleteParams,
    TestClockListParams,
    TestClockRetrieveParams,
)

from tests.stripe_server.wire.answers import deleted, page_of
from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call, Family
from tests.stripe_server.world.world import STEP_SECONDS, World

family = Family()

_KIND = "test_helpers.test_clock"
_MONTH = 30 * 24 * 3600


@family.post("/v1/test_helpers/test_clocks", TestClockCreateParams)
def create_clock(world: World, call: Call) -> Json:
    clock = world.add(
        _KIND,
        deletes_after=world.now() + _MONTH,
        frozen_time=call.params["frozen_time"],
        name=call.params.get("name"),
        status="ready",
        status_details={},
    )
    world.emit("test_helpers.test_clock.created", clock)
    return clock


@family.get("/v1/test_helpers/test_clocks", TestClockListParams)
def list_clocks(world: World, call: Call) -> Json:
    return page_of(world, call, _KIND)


@family.get("/v1/test_helpers/test_clocks/{id}", TestClockRetrieveParams)
def retrieve_clock(world: World, call: Call) -> Json:
    return world.books.get(_KIND, call["id"])


@family.post("/v1/test_helpers/test_clocks/{id}/advance", TestClockAdvanceParams)
def advance_clock(world: World, call: Call) -> Json:
    """Stripe takes minutes for it; here it is done at once."""
    clock, target = world.books.get(_KIND, call["id"]), call.params["frozen_time"]
    if target <= clock["frozen_time"]:
        raise refused("The frozen time must be after the clock's present one.", param="frozen_time")
    world.emit("test_helpers.test_clock.advancing", clock)
    while clock["frozen_time"] < target:
        world.change(clock, frozen_time=min(clock["frozen_time"] + STEP_SECONDS, target))
        world.catch_up()
    world.emit("test_helpers.test_clock.ready", clock)
    return clock


@family.delete("/v1/test_helpers/test_clocks/{id}", TestClockDeleteParams)
def delete_clock(world: World, call: Call) -> Json:
    """Its customers go with it."""
    clock = world.books.get(_KIND, call["id"])
    for customer in world.books.oldest_first("customer", test_clock=clock["id"]):
        for kind in ("subscription", "invoice"):
            for thing in world.books.oldest_first(kind, customer=customer["id"]):
                world.books.remove(kind, thing["id"])
        world.books.remove("customer", customer["id"])
        world.books.facts[customer["id"]]["deleted"] = deleted(customer)
    world.books.remove(_KIND, clock["id"])
    world.emit("test_helpers.test_clock.deleted", clock)
    return deleted(clock)
