"""The OpenAPI 3.1 document, made of the routes, their types and what they document.

Litestar can generate one, but not from what the API does: its schemas lose lower bounds of 0, closed
objects and exact numbers, and its errors have another shape than ours. msgspec, which reads and writes
the bodies, describes its types exactly, in the JSON Schema dialect that OpenAPI 3.1 adopted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

import msgspec
from litestar import Litestar, Response
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.params import BodyKwarg, QueryParameter
from litestar.routes import ASGIRoute, HTTPRoute
from litestar.types.internal_types import PathParameterDefinition

from farebox.core.errors import FareboxError
from farebox.core.openapi.documentation import (
    HEADERS,
    REQUEST_ID,
    Content,
    Documentation,
    ErrorEnvelope,
    Operation,
    Reply,
)

# JSON Schema of what a path parameter holds; Litestar's `path` is text with slashes in it.
_PATH_TYPES = {int: {"type": "integer"}, float: {"type": "number"}}
_REFERENCE = "#/components/schemas/{name}"
_exact = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What the document says of the API as a whole; `tags` with their descriptions, in reading order."""

    title: str
    version: str
    description: str
    server_url: str
    tags: Mapping[str, str]
    security_schemes: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class _Endpoint:
    """One method of one route."""

    path: str
    operation: Operation
    handler: HTTPRouteHandler | ASGIRouteHandler
    path_parameters: Mapping[str, PathParameterDefinition]

    @property
    def documentation(self) -> Documentation:
        """What the route declares; else what its signature tells."""
        declared = self.handler.opt.get("documentation")
        if isinstance(declared, Documentation):
            return declared
        returned = self.handler.parsed_return_field
        kind = returned.inner_types[0].raw if returned.is_subclass_of(Response) else returned.raw
        contents = [] if kind in (None, type(None)) else [Content(kind=kind, examples={})]
        status = self.handler.status_code if isinstance(self.handler, HTTPRouteHandler) else 200
        return Documentation(replies=[Reply(description="Done.", status=status, contents=contents)])

    @property
    def body(self) -> Any:
        """The type of the request's body; None if there is none."""
        data = self.handler.parsed_fn_signature.parameters.get("data")
        return self.documentation.body or (None if data is None else data.annotation)


class _Schemas:
    """Every type of the document, described once."""

    def __init__(self, endpoints: list[_Endpoint]) -> None:
        kinds = [ErrorEnvelope]
        for endpoint in endpoints:
            kinds += [endpoint.body] if endpoint.body is not None else []
            kinds += [content.kind for reply in endpoint.documentation.replies for content in reply.contents]
        schemas, self.components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
        _polish(self.components)
        self._by_kind = dict(zip(map(repr, kinds), schemas, strict=True))

        for endpoint in endpoints:
            for name, text in endpoint.documentation.fields.items():
                self.components[endpoint.body.__name__]["properties"][name]["description"] = text

    def of(self, kind: Any) -> dict[str, Any]:
        """The schema of a type that an endpoint names: mostly a reference."""
        return self._by_kind[repr(kind)]


def openapi_document(app: Litestar, heading: Heading) -> dict[str, Any]:
    """The whole document, ready to be encoded: only dictionaries, lists, strings and numbers."""
    endpoints = list(_endpoints(app))
    schemas = _Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.operation.method] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": heading.title,
            "version": heading.version,
            "description": heading.description,
        },
        "servers": [{"url": heading.server_url}],
        "tags": [{"name": name, "description": text} for name, text in heading.tags.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "headers": {
                name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
            },
            "securitySchemes": {name: dict(scheme) for name, scheme in heading.security_schemes.items()},
        },
    }


def plain_example(value: Any) -> Any:
    """An example as JSON would carry it; amounts of money stay numbers."""
    return msgspec.json.decode(_exact.encode(value))


def _endpoints(app: Litestar) -> Iterator[_Endpoint]:
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _) in route.route_handler_map.items():
                if method != "OPTIONS" and handler.resolve_include_in_schema():
                    operation = _operation_of(handler, method.lower())
                    yield _Endpoint(route.path_format, operation, handler, route.path_parameters)
        elif isinstance(route, ASGIRoute):
            declared = route.route_handler.opt.get("operation")
            if isinstance(declared, Operation):
                yield _Endpoint(route.path_format, declared, route.route_handler, route.path_parameters)


def _operation_of(handler: HTTPRouteHandler, method: str) -> Operation:
    return Operation(
        method=method,
        operation_id=str(handler.operation_id),
        summary=handler.summary or "",
        tags=sorted(handler.resolve_tags()),
        description=handler.description or cleandoc(handler.fn.__doc__ or ""),
    )


def _operation(endpoint: _Endpoint, schemas: _Schemas) -> dict[str, Any]:
    named, documentation = endpoint.operation, endpoint.documentation
    operation: dict[str, Any] = {
        "operationId": named.operation_id,
        "summary": named.summary,
        "tags": list(named.tags),
    }
    if named.description:
        operation["description"] = named.description
    if documentation.security:
        operation["security"] = [{documentation.security: []}]
    if parameters := list(_parameters(endpoint)):
        operation["parameters"] = parameters
    if endpoint.body is not None:
        content = Content(
            kind=endpoint.body, examples=documentation.request, media_type=_media_type(endpoint)
        )
        operation["requestBody"] = {"required": True, "content": _content(content, schemas)}
    replies = {str(reply.status): _reply(reply, schemas) for reply in documentation.replies}
    operation["responses"] = replies | _errors(documentation, schemas)
    return operation


def _polish(schema: Any) -> None:
    """Carry out what WRITTEN_AS_NUMBER asks for, and take the indentation out of docstrings, at any depth."""
    if isinstance(schema, dict):
        if (kind := schema.pop("x-written-as", None)) is not None:
            schema["type"] = kind
        if isinstance(text := schema.get("description"), str):
            schema["description"] = cleandoc(text)
        for part in schema.values():
            _polish(part)


def _media_type(endpoint: _Endpoint) -> str:
    data = endpoint.handler.parsed_fn_signature.parameters.get("data")
    definition = None if data is None else data.kwarg_definition
    media_type = definition.media_type if isinstance(definition, BodyKwarg) else "application/json"
    return str(getattr(media_type, "value", media_type))


def _parameters(endpoint: _Endpoint) -> Iterator[dict[str, Any]]:
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


def _reply(reply: Reply, schemas: _Schemas) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": reply.description,
        "headers": _headers(["x-request-id", *reply.headers]),
    }
    if reply.contents:
        response["content"] = {
            media_type: described
            for content in reply.contents
            for media_type, described in _content(content, schemas).items()
        }
    return response


def _content(content: Content, schemas: _Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"schema": schemas.of(content.kind)}
    if content.examples:
        described["examples"] = {
            name: {"value": plain_example(value)} for name, value in content.examples.items()
        }
    return {content.media_type: described}


def _errors(documentation: Documentation, schemas: _Schemas) -> dict[str, Any]:
    by_status: dict[int, list[FareboxError]] = {}
    for error in documentation.errors:
        by_status.setdefault(error.status, []).append(error)
    return {
        str(status): _error(errors, schemas)
        for status, errors in sorted(by_status.items(), key=lambda item: item[0])
    }


def _error(errors: list[FareboxError], schemas: _Schemas) -> dict[str, Any]:
    """One response for all errors of a status, each an example under its code."""
    examples = {str(error.code): error.envelope(REQUEST_ID) for error in errors}
    names = dict.fromkeys(name for error in errors for name in error.headers if name in HEADERS)
    return {
        "description": f"{HTTPStatus(errors[0].status).phrase}: "
        + ", ".join(f"`{code}`" for code in examples)
        + ".",
        "headers": _headers(["x-request-id", *names]),
        "content": _content(Content(kind=ErrorEnvelope, examples=examples), schemas),
    }


def _headers(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
