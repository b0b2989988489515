"""Sending one response, and knowing whether its bytes still reach anybody."""

from collections.abc import Callable
from typing import Any

from litestar.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from farebox.core.exchange import Exchange, exchange_of
from farebox.gateway.transport.connection import EXTENSION, Connection

Headers = list[tuple[bytes, bytes]]


class Wire:
    """The way to one client. Every byte of an inference response passes here."""

    def __init__(self, scope: Scope) -> None:
        """Raises RuntimeError under a server without `BoundedHttpProtocol`: who leaves would go unseen."""
        extensions: dict[str, Any] = scope.get("extensions") or {}
        if EXTENSION not in extensions:
            raise RuntimeError("Inference is served through `farebox.gateway.transport.server` only.")
        self.exchange: Exchange = exchange_of(scope)
        self.started = False
        self.complete = False
        self._left = False
        self._connection: Connection
        self._connection, cycle = extensions[EXTENSION]
        self._cycle: RequestResponseCycle = cycle()

    @property
    def gone(self) -> bool:
        """Whether the client has left, or was cut: then what is sent goes nowhere."""
        return self._left or self._connection.gone

    @property
    def ready(self) -> bool:
        """Whether a stream has begun and its socket has taken all of it: `write_now` may be called."""
        return self.started and not self._connection.flow.write_paused and not self.gone

    @property
    def flushed(self) -> bool:
        """Whether the socket has taken all of a stream so far. What it has not dies with this process, and
        with the connection."""
        return not self._connection.flow.write_paused

    def watch(self, on_lost: Callable[[], None] | None) -> None:
        """See `Connection.watch`."""
        self._connection.watch(on_lost)

    def leave(self) -> None:
        """Note that the client has left."""
        self._left = True

    def cut(self) -> None:
        """Drop the connection, with what is still buffered."""
        self._left = True
        self._connection.transport.abort()

    async def answer(self, headers: Headers, body: bytes) -> None:
        """Send a whole response, status 200, in one write. Returns when little of it waits for the client to
        read, or the client has left.

        Past the server's own `send`, which would check each header for what ours cannot hold: half of
        what a small answer's way out costs.
        """
        await self._drain()
        if self.gone:
            return
        self.started = self.complete = True
        self.exchange.status = 200
        _finish(self._cycle, [*headers, *self.exchange.headers], body)
        await self._drain()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head. Without a content-length among the headers, the body goes out in chunks."""
        self.started = True
        await self.exchange.send({"type": "http.response.start", "status": status, "headers": headers})

    async def start_stream(self, headers: Headers) -> None:
        """Send the head of a stream, whose every write must reach the socket before the next.

        So only the last one can be waiting in this process's memory; `flushed` tells whether it is.
        """
        self._connection.transport.set_write_buffer_limits(high=0)
        if self._cycle.scope["http_version"] == "1.0":
            # Its client knows no chunks (RFC 9112, section 6.1): the body ends with the connection.
            self._cycle.keep_alive = self._cycle.chunked_encoding = False
        await self.start(200, headers)

    async def write(self, data: bytes, *, last: bool = False) -> bool:
        """Hand bytes to the socket, waiting while the client does not read. False if it has left."""
        if self.gone:
            return False
        if last:
            self._connection.transport.set_write_buffer_limits()
            if not self._cycle.chunked_encoding:
                self._cycle.expected_content_length = len(data)
            await self.exchange.send({"type": "http.response.body", "body": data, "more_body": False})
            self.complete = True
            # A server with `connection: close` closes after the last byte: that is no leaving.
            return True
        await self._drain()
        return not self.gone and self.write_now(data)

    def write_now(self, data: bytes) -> bool:
        """Hand more of a stream to a socket that is `ready`. False if the client turns out to have left."""
        # A chunk (RFC 9112, section 7.1), past the server's own `send` as in `answer`: most are a token.
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if self._cycle.chunked_encoding else data
        self._connection.transport.write(chunk)
        return not self.gone

    async def _drain(self) -> None:
        """Wait until the client has read enough of what was written."""
        if self._connection.flow.write_paused:
            await self._connection.flow.drain()


def _finish(cycle: RequestResponseCycle, headers: Headers, body: bytes) -> None:
    """Do for a whole response what the cycle does when it is sent the head and then all of the body."""
    content = [b"HTTP/1.1 200 OK\r\n"]
    for name, value in cycle.default_headers:
        content += (name, b": ", value, b"\r\n")
    for name, value in headers:
        content += (name, b": ", value, b"\r\n")
    if not cycle.keep_alive:
        content.append(b"connection: close\r\n")
    content += (b"content-length: %d\r\n\r\n" % len(body), body)
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join(content))
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
