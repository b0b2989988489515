"""One endpoint as OpenAPI's operation object: its body, its replies, its errors."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from farebox.core.errors import FareboxError
from farebox.core.openapi.documentation import (
    HEADERS,
    REQUEST_ID,
    Content,
    ErrorEnvelope,
    Reply,
)
from farebox.core.openapi.endpoints import Endpoint
from farebox.core.openapi.parameters import parameters
from farebox.core.openapi.schemas import Schemas

_exact = msgspec.json.Encoder(decimal_format="number")


def operation(endpoint: Endpoint, schemas: Schemas, errors: Sequence[FareboxError]) -> dict[str, Any]:
    """All that the document says of one method of one path. `errors` are those of every operation."""
    named, documentation = endpoint.operation, endpoint.documentation
    described: dict[str, Any] = {
        "operationId": named.operation_id,
        "summary": named.summary,
        "tags": list(named.tags),
    }
    if named.description:
        described["description"] = named.description
    if documentation.security:
        described["security"] = [{documentation.security: []}]
    if found := list(parameters(endpoint)):
        described["parameters"] = found
    if endpoint.body is not None:
        content = Content(kind=endpoint.body, examples=documentation.request, media_type=endpoint.media_type)
        described["requestBody"] = {"required": True, "content": _content(content, schemas)}
    replies = {str(reply.status): _reply(reply, schemas) for reply in documentation.replies}
    described["responses"] = replies | _errors([*errors, *documentation.errors], schemas)
    return described


def _plain_example(value: Any) -> Any:
    """An example as JSON would carry it; amounts of money stay numbers."""
    return msgspec.json.decode(_exact.encode(value))


def _reply(reply: Reply, schemas: Schemas) -> dict[str, Any]:
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


def _content(content: Content, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {"schema": schemas.of(content.kind)}
    if content.examples:
        described["examples"] = {
            name: {"value": _plain_example(value)} for name, value in content.examples.items()
        }
    return {content.media_type: described}


def _errors(errors: Sequence[FareboxError], schemas: Schemas) -> dict[str, Any]:
    by_status: dict[int, list[FareboxError]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error)
    return {
        str(status): _error(alike, schemas)
        for status, alike in sorted(by_status.items(), key=lambda item: item[0])
    }


def _error(errors: list[FareboxError], schemas: Schemas) -> dict[str, Any]:
    """One response for all errors of a status, each an example under its code; of a second one, numbered."""
    examples: dict[str, Any] = {}
    for error in errors:
        alike = sum(name.partition(" ")[0] == error.code for name in examples)
        name = f"{error.code} {alike + 1}" if alike else str(error.code)
        examples[name] = error.envelope(REQUEST_ID)
    codes = dict.fromkeys(f"`{error.code}`" for error in errors)
    names = dict.fromkeys(name for error in errors for name in error.headers if name in HEADERS)
    return {
        "description": f"{HTTPStatus(errors[0].status).phrase}: {', '.join(codes)}.",
        "headers": _headers(["x-request-id", *names]),
        "content": _content(Content(kind=ErrorEnvelope, examples=examples), schemas),
    }


def _headers(names: list[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
