"""The objects of OpenAPI 3.1.0 (https://spec.openapis.org/oas/v3.1.0), as far as Farebox uses them.

Closed structs: a field that the specification does not know, or one in a wrong place, does not decode.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Word = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9._-]+$")]
Status = Annotated[str, Meta(pattern=r"^[1-5]\d\d$")]
Path = Annotated[str, Meta(pattern=r"^/")]
Text = Annotated[str, Meta(min_length=1)]


class Closed(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every object is."""


class Schema(Closed, rename="camel"):
    """JSON Schema 2020-12, the keywords in use."""

    ref: str | UnsetType = msgspec.field(name="$ref", default=UNSET)
    title: Text | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    type: Literal["string", "integer", "number", "boolean", "object", "array", "null"] | UnsetType = UNSET
    format: Text | UnsetType = UNSET
    enum: Annotated[list[Any], Meta(min_length=1)] | UnsetType = UNSET
    const: Any = UNSET
    default: Any = UNSET
    examples: list[Any] | UnsetType = UNSET
    properties: "dict[str, Schema] | UnsetType" = UNSET
    required: list[str] | UnsetType = UNSET
    additional_properties: "bool | Schema | UnsetType" = UNSET
    items: "Schema | UnsetType" = UNSET
    any_of: "Annotated[list[Schema], Meta(min_length=1)] | UnsetType" = UNSET
    discriminator: "Discriminator | UnsetType" = UNSET
    minimum: float | UnsetType = UNSET
    maximum: float | UnsetType = UNSET
    min_length: int | UnsetType = UNSET
    max_length: int | UnsetType = UNSET
    min_items: int | UnsetType = UNSET
    max_items: int | UnsetType = UNSET
    max_properties: int | UnsetType = UNSET
    pattern: str | UnsetType = UNSET


class Discriminator(Closed, rename="camel"):
    property_name: str
    mapping: dict[str, str]


class Example(Closed):
    value: Any


class MediaType(Closed):
    schema: Schema
    examples: dict[str, Example] | UnsetType = UNSET


class Reference(Closed):
    ref: str = msgspec.field(name="$ref")


class Header(Closed):
    description: Text
    schema: Schema


class Reply(Closed):
    description: Text
    headers: dict[str, Reference] | UnsetType = UNSET
    content: dict[str, MediaType] | UnsetType = UNSET


class Parameter(Closed):
    name: Text
    place: Literal["path", "query", "header", "cookie"] = msgspec.field(name="in")
    required: bool
    schema: Schema
    description: Text | UnsetType = UNSET
    example: Any = UNSET


class RequestBody(Closed):
    required: bool
    content: dict[str, MediaType]


class Operation(Closed, rename="camel"):
    operation_id: Word
    summary: Text
    description: Text
    tags: Annotated[list[str], Meta(min_length=1)]
    responses: Annotated[dict[Status, Reply], Meta(min_length=1)]
    parameters: list[Parameter] | UnsetType = UNSET
    request_body: RequestBody | UnsetType = UNSET
    security: list[dict[str, list[str]]] | UnsetType = UNSET


class PathItem(Closed):
    get: Operation | UnsetType = UNSET
    put: Operation | UnsetType = UNSET
    post: Operation | UnsetType = UNSET
    delete: Operation | UnsetType = UNSET
    patch: Operation | UnsetType = UNSET


class SecurityScheme(Closed, rename="camel"):
    type: Literal["http", "apiKey"]
    description: Text
    scheme: str | UnsetType = UNSET
    bearer_format: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    place: Literal["cookie", "header", "query"] | UnsetType = msgspec.field(name="in", default=UNSET)


class Components(Closed, rename="camel"):
    schemas: dict[Word, Schema]
    headers: dict[Word, Header]
    security_schemes: dict[Word, SecurityScheme]


class Info(Closed):
    title: Text
    version: Text
    description: Text


class Server(Closed):
    url: Annotated[str, Meta(pattern=r"^https?://[^/]+$")]


class Tag(Closed):
    name: Text
    description: Text


class OpenAPI(Closed):
    openapi: Literal["3.1.0"]
    info: Info
    servers: Annotated[list[Server], Meta(min_length=1)]
    tags: list[Tag]
    paths: dict[Path, PathItem]
    components: Components
