"""What an operation says of itself in the API reference, declared beside its routes.

A route carries its `Documentation` as `opt={"documentation": …}`; `core.openapi` makes the document of
all of them. Examples are values of the very types that the routes read and write, and errors are the
exceptions that they raise: the reference cannot promise what the code does not say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from farebox.core.errors import FareboxError, PayloadTooLarge, Unavailable, UnsupportedMediaType
from farebox.core.strict_json import InvalidField, MalformedJson, TooManyValues

# Marks a Decimal that its route writes as a JSON number, with all its digits; msgspec supposes a string.
WRITTEN_AS_NUMBER = {"x-written-as": "number"}


def shown_as(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Marks a type whose JSON Schema is `schema`: msgspec knows no two kinds of lists side by side."""
    return {"x-shown-as": schema}


REQUEST_ID = "req_0199d3f04a7c7b52a6e1c4d2f8b09a31"

# Every response has the first; which have the others, each reply and error says.
HEADERS = {
    "x-request-id": "Names the request: in the log, in the usage event, and for whoever you ask for help.",
    "openai-processing-ms": "Milliseconds from the request's head to the response's first byte.",
    "x-ratelimit-limit-requests": "Requests per minute under the tightest limit that applies.",
    "x-ratelimit-limit-tokens": "Tokens per minute under the tightest limit that applies.",
    "x-ratelimit-remaining-requests": "Requests left of that limit.",
    "x-ratelimit-remaining-tokens": "Tokens left of that limit.",
    "x-ratelimit-reset-requests": "When that limit is whole again, as a duration: `20ms`, `1.5s`, `6m0s`.",
    "x-ratelimit-reset-tokens": "When that limit is whole again, as a duration.",
    "Farebox-Receipt": "Of a whole answer: what it came to, signed. `pending` if it is to be had later.",
    "Retry-After": "Seconds after which another try can help.",
    "retry-after-ms": "The same in milliseconds.",
    "x-should-retry": "`true` or `false`: whether another try can help at all.",
    "WWW-Authenticate": "How to authenticate: `Bearer`.",
    "Allow": "The methods that this address takes.",
    "Set-Cookie": "The session's cookie: HttpOnly, SameSite=Lax.",
}


class ErrorDetails(msgspec.Struct, frozen=True):
    """What went wrong. `param` names the field at fault, `code` is for programs, `message` for people."""

    message: str
    type: str
    param: str | None
    code: str | None
    request_id: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """The body of every error, in OpenAI's shape."""

    error: ErrorDetails


@dataclass(frozen=True, kw_only=True)
class Content:
    """One media type of a body: the type of what it holds, and examples by name."""

    kind: Any
    examples: Mapping[str, Any]
    media_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A response that is no error; `headers` are names out of HEADERS."""

    description: str
    status: int = 200
    contents: Sequence[Content] = ()
    headers: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Documentation:
    """One operation. `query` is a struct whose fields are its query parameters.

    `security` names a scheme of the document; None: the operation is open to all. `request` holds
    examples of the body by name, `fields` what the body's fields mean, `values` an example of each
    parameter. `body` is the body's type, for a handler that has no parameter `data` of that type.
    """

    replies: Sequence[Reply]
    errors: Sequence[FareboxError] = ()
    body: Any = None
    request: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    query: type[msgspec.Struct] | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    security: str | None = None

    def __deepcopy__(self, _: dict[int, Any]) -> "Documentation":
        # Litestar copies a router whenever it is mounted; this is the same for every copy.
        return self


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What names an operation. A route that is a plain ASGI application carries it as `opt={"operation": …}`;
    any other one says the same by Litestar's own parameters. `method` is in lower case."""

    method: str
    operation_id: str
    summary: str
    tags: Sequence[str]
    description: str

    def __deepcopy__(self, _: dict[int, Any]) -> "Operation":
        return self


# What every route that reads JSON may answer, and every route that asks Postgres.
BODY_ERRORS: tuple[FareboxError, ...] = (
    MalformedJson("The body is not valid JSON: trailing comma in object (byte 42)."),
    InvalidField("Unknown field: `colour`.", param="colour", code="unknown_field"),
    InvalidField("Missing required field: `model`.", param="model", code="missing_field"),
    TooManyValues(250_000, 0),
    PayloadTooLarge("The body is larger than 1000000 bytes.", code="request_too_large"),
    UnsupportedMediaType(
        "The body must be sent as `Content-Type: application/json`.", code="unsupported_media_type"
    ),
)
SERVER_ERRORS: tuple[FareboxError, ...] = (
    FareboxError("The server had an error while processing your request.", code="internal_error"),
    Unavailable("The database is not reachable; please try again."),
)
