"""JSON schemas of tools' arguments, as parts of one larger schema."""

from collections.abc import Sequence
from typing import Any

from farebox.gateway.completions.jobs.tools import OfferedTool
from farebox.gateway.errors import InvalidParameter

# What maps names to schemas: a `$ref` in it is somebody's name.
_NAMED = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}
# What is no schema, though it may look like one.
_DATA = {"const", "enum", "default", "examples"}
# A root's own marks, which would make another document of it.
_ROOT_ONLY = {"$id", "id", "$schema"}


def call_schema(tools: Sequence[OfferedTool], key: str) -> dict[str, Any]:
    """The schema of a call of any of the tools, with its arguments under `key`.

    Each tool's schema keeps its own root: it stands whole among the definitions, and what it refers to
    within itself is looked for there. Raises InvalidParameter.
    """
    return {
        "$defs": {_name(place): _moved(tool, place) for place, tool in enumerate(tools)},
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": tool.name},
                    key: {"$ref": f"#/$defs/{_name(place)}"},
                },
                "required": ["name", key],
                "additionalProperties": False,
            }
            for place, tool in enumerate(tools)
        ],
    }


def any_call_schema(tools: Sequence[OfferedTool], key: str) -> dict[str, Any]:
    """The schema of a call of any of the tools, whatever its arguments are."""
    return {
        "type": "object",
        "properties": {
            "name": {"enum": [tool.name for tool in tools]},
            key: {"type": "object"},
        },
        "required": ["name", key],
        "additionalProperties": False,
    }


def _name(place: int) -> str:
    return f"tool{place}"


def _moved(tool: OfferedTool, place: int) -> dict[str, Any]:
    parameters = {key: value for key, value in tool.parameters.items() if key not in _ROOT_ONLY}
    try:
        schema: dict[str, Any] = _rebased(parameters, f"#/$defs/{_name(place)}")
    except RecursionError:
        raise InvalidParameter("The `parameters` of a tool are nested too deeply.", "tools") from None
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        raise InvalidParameter(
            f"The `parameters` of the tool `{tool.name}` are the schema of no object.", "tools"
        )
    return schema | {"type": "object"}


def _rebased(value: Any, root: str) -> Any:
    """A schema whose references from its root begin at `root` instead."""
    if isinstance(value, list):
        return [_rebased(item, root) for item in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key == "$ref" and isinstance(item, str) and (item == "#" or item.startswith("#/")):
            found[key] = root + item[1:]
        elif key in _NAMED and isinstance(item, dict):
            found[key] = {name: _rebased(schema, root) for name, schema in item.items()}
        else:
            found[key] = item if key in _DATA else _rebased(item, root)
    return found
