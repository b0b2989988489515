"""`/schema`: the OpenAPI document of this very server."""

from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar, Response, Router, get

from farebox.core.bodies import StrictRequest
from farebox.core.errors import MethodNotAllowed
from farebox.core.openapi.document import ApiDescription, openapi_document
from farebox.core.settings import Settings
from farebox.gateway.transport.http_protocol import (
    MAX_HEAD_BYTES,
    REQUEST_SECONDS,
    HeadTooLarge,
    MalformedRequest,
    RequestTooSlow,
    TooManyParameters,
)

_DESCRIPTION = """\
Speaks OpenAI's HTTP API: point any OpenAI client at this address followed by `/v1`, with a key made in the
dashboard.

Every response has `x-request-id`. Errors have one shape, `{"error": {"message", "type", "param", "code",
"request_id"}}`. Unknown fields are refused. A request is admitted against its worst case (the prompt and the
whole answer it asks for) and billed for what it used.
"""

_TAGS = {
    "Chat": "Answers to conversations.",
    "Completions": "Continuations of text.",
    "Encoders": "Vectors, relevance and labels of texts.",
    "Models": "What may be called.",
    "Usage": "What was used and what it cost, for keys with the scope `admin`.",
    "Invoices": "What is billed and to whom, for keys with the scope `admin`.",
    "Exports": "Usage and costs as files, for keys with the scope `admin`.",
    "Payments": "Paying in, for owners' keys with the scope `admin`.",
    "Keys": "Checking the signature of an API key.",
    "Accounts": "Signing up, in and out; for pages of your own in the dashboard's place.",
    "Operations": "For load balancers.",
}

# What is said before any route is asked.
_ERRORS = (
    MalformedRequest("This is not a valid HTTP request."),
    TooManyParameters(),
    MethodNotAllowed(
        "This address does not take this method.",
        code="method_not_allowed",
        headers={"Allow": "OPTIONS, POST"},
    ),
    RequestTooSlow(f"The request was not sent within {REQUEST_SECONDS:g} s."),
    HeadTooLarge(f"The request line and headers exceed {MAX_HEAD_BYTES} bytes."),
)


def api_document(app: Litestar) -> dict[str, Any]:
    """The OpenAPI 3.1 document of `app`, as dictionaries and lists.

    Its security schemes are in `app.state`: composition knows every domain's.
    """
    settings: Settings = app.state.settings
    return openapi_document(
        app,
        ApiDescription(
            title="Farebox",
            version=version("farebox"),
            description=_DESCRIPTION,
            server_url=settings.public_url,
            tags=_TAGS,
            security_schemes=app.state.security_schemes,
            errors=_ERRORS,
        ),
    )


@get(["/schema", "/schema/openapi.json"], include_in_schema=False)
async def schema(request: StrictRequest) -> Response[bytes]:
    """The document; made once, it does not change while the server runs."""
    if "api_document" not in request.app.state:
        request.app.state.api_document = msgspec.json.encode(api_document(request.app))
    # Other origins may read it: it tells nothing that this one keeps to itself.
    headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-cache"}
    return Response(request.app.state.api_document, media_type="application/json", headers=headers)


router = Router(path="/", route_handlers=[schema])
