"""What leaves: pages of lists, and objects put in place of their ids."""

import copy
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from tests.stripe_server.wire.errors import Json, refused
from tests.stripe_server.wire.routing import Call
from tests.stripe_server.world.kinds import KINDS
from tests.stripe_server.world.world import World

_DEFAULT_LIMIT, _MOST = 10, 100
_DEFAULT_LIMIT_V2 = 20
_DEEPEST = 4
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}


def page_of(
    world: World,
    call: Call,
    kind: str,
    *by: str,
    where: Callable[[Json], bool] = lambda _: True,
    **fixed: Any,
) -> Json:
    """The newest first, of those whose fields equal the parameters named and what is fixed."""
    wanted = {name: call.params[name] for name in by if name in call.params} | fixed
    created = call.params.get("created")
    things = [
        thing
        for thing in world.books.newest_first(kind)
        if all(thing[name] == value for name, value in wanted.items())
        and _created_within(thing, created)
        and where(thing)
    ]
    return paged(call, things)


def _created_within(thing: Json, bounds: Any) -> bool:
    if bounds is None:
        return True
    if isinstance(bounds, int):
        return bool(thing["created"] == bounds)
    return all(_COMPARISONS[name](thing["created"], bound) for name, bound in bounds.items())


def paged(call: Call, things: Iterable[Json]) -> Json:
    """One page of a list, between `ending_before` and `starting_after`."""
    rows, params = list(things), call.params
    limit = params.get("limit", _DEFAULT_LIMIT)
    if not 1 <= limit <= _MOST:
        raise refused("Limit must be between 1 and 100", param="limit", code="parameter_invalid_integer")
    if "ending_before" in params:
        rows = rows[: _place(rows, params["ending_before"], "ending_before")]
        return listed(rows[-limit:], call.path, has_more=len(rows) > limit)
    if "starting_after" in params:
        rows = rows[_place(rows, params["starting_after"], "starting_after") + 1 :]
    return listed(rows[:limit], call.path, has_more=len(rows) > limit)


def paged_v2(call: Call, rows: list[Json]) -> Json:
    """One page of a list of v2, which knows the way to its neighbours."""
    limit, start = call.params.get("limit", _DEFAULT_LIMIT_V2), int(call.params.get("page", 0))
    return {
        "data": rows[start : start + limit],
        "next_page_url": _page_url(call, start + limit) if start + limit < len(rows) else None,
        "previous_page_url": _page_url(call, max(start - limit, 0)) if start else None,
    }


def _page_url(call: Call, start: int) -> str:
    """The same list, from another row on."""
    kept = [(name, value) for name, value in call.params.items() if name != "page"]
    pairs = [
        (f"{name}[{index}]", entry) if isinstance(value, list) else (name, entry)
        for name, value in kept
        for index, entry in enumerate(value if isinstance(value, list) else [value])
    ]
    return f"{call.path}?{urlencode([*pairs, ('page', start)])}"


def _place(rows: list[Json], identifier: str, param: str) -> int:
    for index, row in enumerate(rows):
        if row["id"] == identifier:
            return index
    raise refused(f"No such object: '{identifier}'", param=param, code="resource_missing")


def listed(rows: list[Json], url: str, *, has_more: bool = False) -> Json:
    return {"object": "list", "data": rows, "has_more": has_more, "url": url}


def deleted(thing: Json) -> Json:
    return {"id": thing["id"], "object": thing["object"], "deleted": True}


def presented(world: World, answer: Json, expand: list[str]) -> Json:
    """A copy with the objects that were asked for. Raises StripeError for what cannot be expanded."""
    shown = copy.deepcopy(answer)
    for path in expand:
        steps = path.split(".")
        if len(steps) > _DEEPEST:
            raise refused("You cannot expand more than 4 levels of a property.", param="expand")
        _expand(world, shown, steps, path)
    return shown


def _expand(world: World, thing: Any, steps: list[str], path: str) -> None:
    if isinstance(thing, list):
        for entry in thing:
            _expand(world, entry, steps, path)
    elif steps and isinstance(thing, dict):
        name, *deeper = steps
        thing[name] = _expanded(world, thing, name, path)
        _expand(world, thing[name], deeper, path)


def _expanded(world: World, thing: Json, name: str, path: str) -> Any:
    include = world.includes.get((thing.get("object", ""), name))
    if include is not None and name not in thing:
        return copy.deepcopy(include(world, thing))
    if name not in thing:
        raise refused(f"This property cannot be expanded ({path}).", param="expand")
    return _object_for(world, thing[name])


def _object_for(world: World, value: Any) -> Any:
    if isinstance(value, list):
        return [_object_for(world, entry) for entry in value]
    found = world.books.find(value) if isinstance(value, str) else None
    return copy.deepcopy(found) if found is not None and found["object"] in KINDS else value
