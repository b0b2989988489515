"""One request and its response: its id, its access line."""

import time
from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from litestar import Litestar
from litestar.types import HTTPScope, Message, Scope, Send

from farebox.core.cors import cors_headers, preflight_headers
from farebox.core.ids import external, new_id
from farebox.core.logs import REQUEST_ID, REQUEST_LOG
from farebox.core.metrics import HTTP_REQUESTS


class Application(Litestar):
    """Litestar with a request id on every response, whoever made it, and one access line for each."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        headers = cors_headers(self.state.get("cors_origins") or "", scope["path"], scope["headers"])
        preflight = preflight_headers(scope["method"], scope["headers"]) if len(headers) > 1 else []
        exchange = Exchange(new_id(), send, headers)
        scope.setdefault("state", {})["exchange"] = exchange
        method = scope["method"]
        if method == "HEAD":
            # As GET, less the body (RFC 9110, section 9.3.2), which the server leaves out.
            scope = scope | {"method": "GET"}
        REQUEST_ID.set(exchange.external_id)
        try:
            if preflight:
                await exchange.send({"type": "http.response.start", "status": 204, "headers": preflight})
                await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await super().__call__(scope, receive, exchange.send)
        finally:
            exchange.finish(scope | {"method": method})
            # It holds what holds the scope: let go, or the ring lives until the collector comes by.
            del scope["state"]["exchange"]


class Exchange:
    """One request and its response. `facts` (ids, counts, durations, never text) join the access line."""

    __slots__ = ("_cors", "_send", "external_id", "facts", "request_id", "started", "status")

    def __init__(self, request_id: UUID, send: Send, cors: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self._cors = cors
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
            message["headers"] = [*message.get("headers", ()), *self.headers]
        await self._send(message)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What tells the client the request's id, and a web page's browser that it may read the response."""
        return [(b"x-request-id", self.external_id.encode()), *self._cors]

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
