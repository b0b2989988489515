"""Errors as pages: what went wrong, in words, with a way on."""

from typing import Any
from urllib.parse import quote, urlencode

import structlog
from litestar import Response
from litestar.connection import Request

from farebox.auth.dependencies import session_token
from farebox.auth.errors import NotSignedIn
from farebox.core.error_answers import as_farebox_error, error_response
from farebox.core.errors import FareboxError
from farebox.core.exchange import exchange_of
from farebox.dashboard.pages import page, redirect

log = structlog.get_logger(__name__)

_HEADINGS = {
    400: "That did not work",
    403: "Not allowed",
    404: "Not found",
    405: "Not found",
    413: "Too long",
    429: "Slow down",
    503: "Back in a moment",
}

# Where what a program is told would puzzle people.
_MESSAGES = {413: "That was more than a form takes here. Please shorten it, and send it again."}

# What somebody who follows a link may meet; any other refusal is an answer to a program.
_FOR_NAVIGATION = (404, 405, 500, 503)


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The exception handler of all that is no page: JSON for programs, a page for a browser's window."""
    if as_farebox_error(error).status in _FOR_NAVIGATION and _prefers_html(request):
        response = error_page(request, error)
    else:
        response = error_response(request, error)
    response.headers["Vary"] = "Accept"
    return response


def error_page(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The exception handler of every page. Who is not signed in is led to the sign-in, and back."""
    if isinstance(error, NotSignedIn):
        return _to_sign_in(request)
    known = as_farebox_error(error)
    if known.status >= 500 and not isinstance(error, FareboxError):
        log.error("page.failed", exc_info=error)
    exchange = exchange_of(request.scope)
    exchange.facts["error"] = known.code
    response = page(
        "error.html",
        status=known.status,
        heading=_HEADINGS.get(known.status, "Something went wrong"),
        message=_MESSAGES.get(known.status, known.message),
        request_id=exchange.external_id,
    )
    response.headers.update(known.headers)
    return response


def _prefers_html(request: Request[Any, Any, Any]) -> bool:
    try:
        return request.accept.best_match(["application/json", "text/html"]) == "text/html"
    except OverflowError:  # a weight like 1e999
        return False


def _to_sign_in(request: Request[Any, Any, Any]) -> Response[Any]:
    # Not `request.url`, into which the client's own Host goes.
    query = request.scope["query_string"].decode("latin-1")
    here = request.scope["path"] + (f"?{query}" if query else "")
    # A cookie without a session: somebody was signed in, and shall not wonder why they are not.
    ended = {"ended": "true"} if session_token(request, request.app.state.settings) else {}
    back = {"next": here} if request.method == "GET" else {}
    if request.headers.get("hx-request") == "true":
        # A redirect would be followed by htmx, and the sign-in put into the middle of the page.
        response: Response[Any] = page("account/signed_out.html")
        response.headers["HX-Redirect"] = _sign_in(ended)
        return response
    return redirect(_sign_in(back | ended))


def _sign_in(query: dict[str, str]) -> str:
    return "/sign-in" + (f"?{urlencode(query, safe='/', quote_via=quote)}" if query else "")
