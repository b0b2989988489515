"""Sending one response, and knowing whether its bytes still reach anybody."""

import asyncio
from typing import Any

from litestar.types import Scope

from farebox.core.http import Exchange, exchange_of

EXTENSION = "farebox.transport"

Headers = list[tuple[bytes, bytes]]


class Wire:
    """The way to one client. Every byte of an inference response passes here.

    The server puts the connection's transport into the ASGI scope (see `gateway.protocol`): ASGI
    itself neither tells at once that the client left nor can bound what waits unsent.
    Without it (another server, a test client) the client's leaving is still learned from
    `http.disconnect`.
    """

    def __init__(self, scope: Scope) -> None:
        self.exchange: Exchange = exchange_of(scope)
        self.started = False
        self.complete = False
        self._left = False
        extensions: dict[str, Any] = scope.get("extensions") or {}
        self._transport: asyncio.Transport | None = extensions.get(EXTENSION)

    @property
    def gone(self) -> bool:
        """Whether the client has left, or was cut: then what is sent goes nowhere."""
        return self._left or (self._transport is not None and self._transport.is_closing())

    def leave(self) -> None:
        """Note that the client has left."""
        self._left = True

    def cut(self) -> None:
        """Drop the connection, with what is still buffered."""
        self._left = True
        if self._transport is not None:
            self._transport.abort()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the response's head."""
        self.started = True
        await self.exchange.send({"type": "http.response.start", "status": status, "headers": headers})

    async def start_stream(self, headers: Headers) -> None:
        """Send the head of a stream, whose every write must reach the socket before the next.

        So what is counted as handed over can run ahead of the socket by one chunk at most.
        """
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=0)
        await self.start(200, headers)

    async def write(self, data: bytes, *, last: bool = False) -> bool:
        """Hand bytes to the socket, waiting while the client does not read. False if it has left."""
        if self.gone:
            return False
        if last and self._transport is not None:
            self._transport.set_write_buffer_limits()
        await self.exchange.send({"type": "http.response.body", "body": data, "more_body": not last})
        self.complete = last
        # A server with `connection: close` closes after the last byte: that is no leaving.
        return last or not self.gone
