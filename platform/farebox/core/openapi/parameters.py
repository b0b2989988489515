"""Path and query parameters of an endpoint."""

from collections.abc import Iterator
from typing import Any

import msgspec
from litestar.params import QueryParameter

from farebox.core.openapi.documentation import Documentation
from farebox.core.openapi.endpoints import Endpoint

# JSON Schema of what a path parameter holds; Litestar's `path` is text with slashes in it.
_PATH_TYPES = {int: {"type": "integer"}, float: {"type": "number"}}


def parameters(endpoint: Endpoint) -> Iterator[dict[str, Any]]:
    """OpenAPI's parameter objects: those of the path, of the query struct, and of the handler's signature."""
    documentation = endpoint.documentation
    for name, definition in endpoint.path_parameters.items():
        schema = _PATH_TYPES.get(definition.type, {"type": "string"})
        yield _parameter(documentation, name, "path", dict(schema), required=True)
    if documentation.query is not None:
        _, components = msgspec.json.schema_components([documentation.query])
        described = components[documentation.query.__name__]
        for name, schema in described["properties"].items():
            yield _parameter(documentation, name, "query", schema, required=name in described["required"])
    for name, field in endpoint.handler.parsed_fn_signature.parameters.items():
        if isinstance(field.kwarg_definition, QueryParameter):
            (schema,), _ = msgspec.json.schema_components([field.raw])
            yield _parameter(documentation, name, "query", schema, required=field.is_required)


def _parameter(
    documentation: Documentation, name: str, place: str, schema: dict[str, Any], *, required: bool
) -> dict[str, Any]:
    # A parameter that may be absent is no parameter that may be null.
    kinds = [kind for kind in schema.pop("anyOf", []) if kind.get("type") != "null"]
    schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
    if schema.get("default", ...) is None:
        del schema["default"]
    spelled = f"{name}[]" if schema.get("type") == "array" else name
    parameter: dict[str, Any] = {"name": spelled, "in": place, "required": required, "schema": schema}
    if description := schema.pop("description", None):
        parameter["description"] = description
    if name in documentation.values:
        parameter["example"] = documentation.values[name]
    return parameter
