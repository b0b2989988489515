"""What every HTTP route shares: request ids, strict bodies, one error envelope, one access line."""

import asyncio
import time
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.types import Empty, HTTPScope, Message, Receive, Scope, Send

from farebox.core.errors import (
    BadRequest,
    FareboxError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from farebox.core.ids import external, new_id
from farebox.core.logs import REQUEST_ID, REQUEST_LOG
from farebox.core.metrics import HTTP_REQUESTS
from farebox.core.strict_json import StrictDecoder

MAX_BODY_BYTES = 1_000_000
# Above this, decoding takes milliseconds and moves to a thread.
LARGE_BODY_BYTES = 32_768
JSON = b"application/json"

T = TypeVar("T")

log = structlog.get_logger(__name__)


class ClientGone(BadRequest):
    """The client hung up while its request was being read; nobody sees this answer."""

    code = "client_gone"


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body is read strictly (see `core.strict_json`) as the handler's `data`."""

    async def stream(self) -> Any:
        """The whole body as one piece: bodies are small here (see `body`)."""
        yield await self.body()

    async def body(self) -> bytes:
        """The whole body, of at most MAX_BODY_BYTES; see `read_body`."""
        if self._body is Empty:
            self._body = await read_body(self.scope, self.receive, _media_type(self.route_handler))
        return self._body

    async def json(self) -> Any:
        """The body as the type of the handler's `data` parameter."""
        kind = self.route_handler.parsed_fn_signature.parameters["data"].annotation
        return await decode_body(_decoder(kind), await self.body())


async def read_body(scope: Scope, receive: Receive, expected: bytes | None = JSON) -> bytes:
    """The whole body of a request, of at most MAX_BODY_BYTES; one that announces more is refused unread.

    Raises UnsupportedMediaType first where its media type is not `expected` (None: any will do),
    PayloadTooLarge, and ClientGone when the client leaves meanwhile, which is no server error.
    """
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = media_type or value
        elif name == b"content-length" and value.isdigit() and int(value) > MAX_BODY_BYTES:
            raise _body_too_large()
    if expected is not None and media_type.split(b";", 1)[0].strip().lower() != expected:
        raise UnsupportedMediaType(
            f"The body must be sent as `Content-Type: {expected.decode()}`.",
            code="unsupported_media_type",
        )
    message: Any = await receive()
    body: bytes = message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body", False):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _body_too_large()
    if message["type"] == "http.disconnect":
        raise ClientGone("The client disconnected.")
    return body


async def decode_body(decoder: StrictDecoder[T], body: bytes) -> T:
    """What a body says. Raises MalformedJson and InvalidField."""
    if len(body) > LARGE_BODY_BYTES:
        return await asyncio.to_thread(decoder.decode, body)
    return decoder.decode(body)


@cache
def _decoder(kind: Any) -> StrictDecoder[Any]:
    return StrictDecoder(kind)


@cache
def _media_type(handler: Any) -> bytes | None:
    """What a handler's body must be; None for one that takes none."""
    data = handler.parsed_fn_signature.parameters.get("data")
    if data is None:
        return None
    definition = data.kwarg_definition
    media_type = getattr(definition, "media_type", None) or "application/json"
    return str(getattr(media_type, "value", media_type)).encode()


class Application(Litestar):
    """Litestar with a request id on every response, whoever made it, and one access line for each."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        exchange = Exchange(new_id(), send)
        scope.setdefault("state", {})["exchange"] = exchange
        REQUEST_ID.set(exchange.external_id)
        try:
            await super().__call__(scope, receive, exchange.send)
        finally:
            exchange.finish(scope)
            # It holds what holds the scope: let go, or the ring lives until the collector comes by.
            del scope["state"]["exchange"]


class Exchange:
    """One request and its response. `facts` (ids, counts, durations, never text) join the access line."""

    __slots__ = ("_send", "external_id", "facts", "request_id", "started", "status")

    def __init__(self, request_id: UUID, send: Send) -> None:
        self.request_id = request_id
        self.external_id = external("req", request_id)
        self.started = time.perf_counter()
        self.status = 0
        self.facts: dict[str, Any] = {}
        self._send = send

    async def send(self, message: Message) -> None:
        """Pass a message on to the server; puts the request id on the response's start."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), self.header]
        await self._send(message)

    @property
    def header(self) -> tuple[bytes, bytes]:
        """What tells the client the request's id."""
        return (b"x-request-id", self.external_id.encode())

    @property
    def elapsed(self) -> float:
        """Seconds since the request's head arrived."""
        return time.perf_counter() - self.started

    def finish(self, scope: HTTPScope) -> None:
        """Write the access line and count the request."""
        route = scope.get("path_template") or "unmatched"
        _counter(scope["method"] if route != "unmatched" else "", route, self.status).inc()
        REQUEST_LOG.write(
            event="request.completed",
            method=scope["method"],
            route=route,
            status=self.status,
            seconds=round(self.elapsed, 6),
            **self.facts,
        )


@cache
def _counter(method: str, route: str, status: int) -> Any:
    # Looking a series up by its labels costs more than counting.
    return HTTP_REQUESTS.labels(method, route, status)


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that `Application` opened for this request."""
    exchange: Exchange = scope["state"]["exchange"]
    return exchange


def error_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """OpenAI's envelope for whatever was raised."""
    known = as_farebox_error(error)
    if known.status >= 500 and not isinstance(error, FareboxError):
        log.error("request.failed", exc_info=error)
    exchange = exchange_of(request.scope)
    exchange.facts["error"] = known.code
    return Response(
        msgspec.json.encode(known.envelope(exchange.external_id)),
        status_code=known.status,
        headers=known.headers,
        media_type="application/json",
    )


def as_farebox_error(error: Exception) -> FareboxError:
    """What the client is told of an exception; anything unforeseen becomes a bare server error."""
    if isinstance(error, FareboxError):
        return error
    if not isinstance(error, HTTPException) or error.status_code >= 500:
        return FareboxError("The server had an error while processing your request.", code="internal_error")
    headers = dict(error.headers or {})
    match error.status_code:
        case 404:
            return NotFound("There is nothing at this address.", code="not_found")
        case 405:
            return MethodNotAllowed(
                "This address does not take this method.", code="method_not_allowed", headers=headers
            )
        case 413:
            return _body_too_large()
    return BadRequest(_describe(error), code="invalid_request", headers=headers)


def _body_too_large() -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.", code="request_too_large")


def _describe(error: HTTPException) -> str:
    faults = error.extra if isinstance(error.extra, list) else []
    parts = [f"`{f.get('key', '?')}`: {f.get('message', 'invalid')}" for f in faults if isinstance(f, dict)]
    return "; ".join(parts) or error.detail or "The request is invalid."
