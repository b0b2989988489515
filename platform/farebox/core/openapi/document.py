"""The OpenAPI 3.1 document, made of the routes, their types and what they document.

Litestar can generate one, but not from what the API does: its schemas lose lower bounds of 0, closed
objects and exact numbers, and its errors have another shape than ours. msgspec, which reads and writes
the bodies, describes its types exactly, in the JSON Schema dialect that OpenAPI 3.1 adopted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litestar import Litestar

from farebox.core.errors import FareboxError
from farebox.core.openapi.documentation import HEADERS
from farebox.core.openapi.endpoints import endpoints_of
from farebox.core.openapi.operations import operation
from farebox.core.openapi.schemas import Schemas


@dataclass(frozen=True, kw_only=True)
class ApiDescription:
    """What the document says of the API as a whole; `tags` with their descriptions, in reading order.

    `errors` are those that every operation may answer.
    """

    title: str
    version: str
    description: str
    server_url: str
    tags: Mapping[str, str]
    security_schemes: Mapping[str, Mapping[str, str]]
    errors: Sequence[FareboxError]


def openapi_document(app: Litestar, about: ApiDescription) -> dict[str, Any]:
    """The whole document, ready to be encoded: only dictionaries, lists, strings and numbers."""
    endpoints = list(endpoints_of(app))
    schemas = Schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.operation.method] = operation(
            endpoint, schemas, about.errors
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": about.version,
            "description": about.description,
        },
        "servers": [{"url": about.server_url}],
        "tags": [{"name": name, "description": text} for name, text in about.tags.items()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "headers": {
                name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
            },
            "securitySchemes": {name: dict(scheme) for name, scheme in about.security_schemes.items()},
        },
    }
