"""What the client is told of an error: one envelope, whoever raised it."""

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from farebox.core.bodies import body_too_large
from farebox.core.errors import BadRequest, FareboxError, MethodNotAllowed, NotFound
from farebox.core.exchange import exchange_of

log = structlog.get_logger(__name__)


def error_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """OpenAI's envelope for whatever was raised."""
    known = as_farebox_error(error)
    if known.code == "not_found" and isinstance(error, HTTPException):
        known = _nothing_here(request)
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


def _nothing_here(request: Request[Any, Any, Any]) -> NotFound:
    """There is no such route; clients forget the API's prefix in their base address."""
    meant = f"/v1{request.scope['path']}"
    known = any(route.path == meant for route in request.app.routes)
    hint = f" Did you mean {meant}? The base address of the API ends with /v1." if known else ""
    return NotFound(f"There is nothing at this address.{hint}", code="not_found")


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
            return body_too_large()
    return BadRequest(_describe(error), code="invalid_request", headers=headers)


def _describe(error: HTTPException) -> str:
    faults = error.extra if isinstance(error.extra, list) else []
    parts = [f"`{f.get('key', '?')}`: {f.get('message', 'invalid')}" for f in faults if isinstance(f, dict)]
    return "; ".join(parts) or error.detail or "The request is invalid."
