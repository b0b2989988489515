"""HTTP/1.1 at the socket: uvicorn's httptools protocol, with bounds on what a stranger may cost.

llhttp, which httptools wraps, already refuses what request smuggling needs (Content-Length beside
Transfer-Encoding, doubled or signed lengths, bare line feeds, folded headers). Added here: limits on
the head and its parameters, one Host that can be one, no Transfer-Encoding in HTTP/1.0, no headers out of
chunked trailers, a time limit for sending a request and one for reading the response, and errors in the
API's envelope.
"""

import asyncio
import http
import ipaddress
import re
import weakref
from typing import Any

import msgspec
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from farebox.core.errors import FareboxError
from farebox.core.ids import external, new_id
from farebox.gateway.transport.connection import EXTENSION, Connection

MAX_HEAD_BYTES = 32_768
REQUEST_SECONDS = 30.0
LINGER_SECONDS = 1.0
MAX_PIPELINED = 4
# What one read may bring beyond that, before reading stops.
MAX_BURST = 32

# Above what the usage pages take. Litestar keeps the last 1,024 queries that it has parsed.
MAX_PARAMETERS = 500

# RFC 3986, section 3.2.2: a name or an IPv4 address, or something in brackets; and a port.
_HOST = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?")
_LAST_PORT = 65_535

log = structlog.get_logger(__name__)


class MalformedRequest(FareboxError):
    status = 400
    type = "invalid_request_error"
    code = "malformed_request"


class HeadTooLarge(FareboxError):
    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class TooManyParameters(FareboxError):
    status = 400
    type = "invalid_request_error"
    code = "too_many_parameters"

    def __init__(self) -> None:
        super().__init__(f"The address has more than {MAX_PARAMETERS} parameters.")


class RequestTooSlow(FareboxError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


_MALFORMED = MalformedRequest("This is not a valid HTTP request.")


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. `stalled_reader_seconds`: how long a client may not read before it is cut.

    `request_seconds` is the time from a request's first byte (or from connecting) to its last.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        stalled_reader_seconds: float,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._stalled_reader_seconds = stalled_reader_seconds
        self._request_seconds = request_seconds
        self._rejection: FareboxError = _MALFORMED
        self._request_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._in_request = False
        self._discarding = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection = Connection(transport, self.flow)
        self._request_timer = self.loop.call_later(self._request_seconds, self._request_overdue)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_request_timer()
        self._stop_reader_timer()
        # First: whoever is told may still ask what of the last write has left.
        self._connection.lost()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """Take a client that ends its half of the connection for one that leaves.

        Most who do so have closed all of it, which looks the same until a write fails: an answer would be
        made, and billed, for nobody. One under way is dropped with what is unsent, for none of that is
        billed. One that is complete is billed, and the transport hands it over before it closes.
        """
        under_way = self.cycle is not None and not self.cycle.response_complete
        if under_way and not self._discarding:
            self._connection.lost()
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._discarding or self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._reject(_too_large())
        elif not self._in_request:
            self._stop_request_timer()
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(self._request_seconds, self._request_overdue)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_request = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which must not pass for a header of the request
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._check_head()
        super().on_headers_complete()
        # Weak, for the cycle holds the scope: a ring of them would live until the collector came by.
        way = (self._connection, weakref.ref(self.cycle))
        self.scope["extensions"] = {EXTENSION: way}  # type: ignore[dict-item]
        if len(self.pipeline) > MAX_BURST:
            raise _MALFORMED  # ends the connection, with what is under way
        if 0 < len(self.pipeline) <= MAX_PIPELINED:
            # uvicorn stops reading at the first request that has to queue, and would not see then that
            # the client leaves: the answer under way would be made, and billed, for nobody.
            self.flow.resume_reading()

    def _check_head(self) -> None:
        """Raises what ends the connection."""
        size = len(self.url)
        hosts = 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
                if not _is_host(value):
                    raise _MALFORMED
        if size > MAX_HEAD_BYTES:
            self._rejection = _too_large()
            raise self._rejection
        if self.url.count(b"&") >= MAX_PARAMETERS:
            self._rejection = TooManyParameters()
            raise self._rejection
        version = self.parser.get_http_version()
        if version == "1.1":
            if hosts != 1:
                raise _MALFORMED
        elif version != "1.0" or hosts > 1 or any(name == b"transfer-encoding" for name, _ in self.headers):
            raise _MALFORMED

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._in_request = False

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn when the parser gives up; `_rejection` says why."""
        self._reject(self._rejection)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._reader_timer is None:
            self._watch_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reader_timer()

    def timeout_keep_alive_handler(self) -> None:
        """As uvicorn's, but a client that has not read its last response is not waited for."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _watch_reader(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._reader_timer = self.loop.call_later(self._stalled_reader_seconds, self._reader_overdue, left)

    def _reader_overdue(self, left_before: int) -> None:
        if 0 < self.transport.get_write_buffer_size() < left_before:
            self._watch_reader()  # slow, but it reads
            return
        log.warning("connection.stalled_reader", seconds=self._stalled_reader_seconds)
        self.transport.abort()

    def _request_overdue(self) -> None:
        self._request_timer = None
        if self.flow.read_paused:  # it is we who do not read: an earlier response is under way
            self._request_timer = self.loop.call_later(self._request_seconds, self._request_overdue)
        elif self._in_request or self._head_bytes:
            self._reject(RequestTooSlow(f"The request was not sent within {self._request_seconds:g} s."))
        else:
            self.transport.close()

    def _reject(self, error: FareboxError) -> None:
        """Answer outside of the application, and close. In mid-response there is nothing left to say."""
        if self._discarding or self.transport.is_closing():
            return
        # What is queued in the pipeline waits for a response that is under way.
        if self.pipeline or (
            self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        ):
            self.transport.abort()
            return
        request_id = external("req", new_id())
        log.info("request.rejected", status=error.status, error=error.code, request_id=request_id)
        self.transport.write(_response(error, request_id))
        self._discarding = True
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        # An answer that is being made can no longer be sent, so it must not be billed either.
        self._connection.lost()
        # Closed at once, with bytes still arriving, the kernel would reset the connection and the
        # client might never see the answer.
        self._stop_request_timer()
        self._request_timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        self.transport.write_eof()

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _stop_reader_timer(self) -> None:
        if self._reader_timer is not None:
            self._reader_timer.cancel()
            self._reader_timer = None


def _is_host(value: bytes) -> bool:
    """Whether a Host can be part of an address: what cannot would fail wherever one is made of it."""
    found = _HOST.fullmatch(value)
    if found is None:
        return False
    address, port = found.groups()
    return (address is None or _is_ipv6(address)) and int(port or 0) <= _LAST_PORT


def _is_ipv6(address: bytes) -> bool:
    try:
        ipaddress.IPv6Address(address.decode())
    except ValueError:
        return False
    return True


def _too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The request line and headers exceed {MAX_HEAD_BYTES} bytes.")


def _response(error: FareboxError, request_id: str) -> bytes:
    body = msgspec.json.encode(error.envelope(request_id))
    head = (
        f"HTTP/1.1 {error.status} {http.HTTPStatus(error.status).phrase}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-request-id: {request_id}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
