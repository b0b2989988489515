"""How parameters change an object: an empty string takes a value away, metadata is merged key by key."""

from typing import Any

from tests.stripe_server.wire.errors import Json


def changes(thing: Json, params: Json, *names: str) -> Json:
    """The named fields as they shall be, of those that the request has."""
    return {name: _changed(thing, name, params[name]) for name in names if name in params}


def _changed(thing: Json, name: str, value: Any) -> Any:
    if name == "metadata":
        return merged_metadata(thing["metadata"], value)
    if value == "":
        return None
    if isinstance(value, dict) and isinstance(thing[name], dict):
        return {**thing[name], **{key: _cleared(inner) for key, inner in value.items()}}
    return value


def _cleared(value: Any) -> Any:
    return None if value == "" else value


def merged_metadata(before: dict[str, str] | None, given: Any) -> dict[str, str]:
    if given == "":
        return {}
    both = {**(before or {}), **(given or {})}
    return {key: value for key, value in both.items() if value != ""}
