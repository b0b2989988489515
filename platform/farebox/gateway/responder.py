"""What one client is answered, errors included."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec
import structlog

from farebox.core.error_answers import as_farebox_error
from farebox.core.errors import FareboxError
from farebox.core.fair_threads import FairThreads
from farebox.gateway.rate_limit_headers import rate_limit_headers
from farebox.gateway.transport.wire import Headers, Wire
from farebox.metering.quotas import Quotas
from farebox.metering.receipts.batch import Receipt

JSON: Headers = [(b"content-type", b"application/json")]
RECEIPT_HEADER = b"farebox-receipt"

# Below this, writing an answer takes less time than the way to a thread and back.
INLINE_PIECES = 2_000

log = structlog.get_logger(__name__)


class Responder:
    """Answers one admitted request, with the headers that admission's verdict gave it."""

    def __init__(self, wire: Wire, quotas: Quotas) -> None:
        self._wire = wire
        self._rate_limit_headers = rate_limit_headers(quotas)

    def headers(self) -> Headers:
        """What every answer to inference says about itself."""
        milliseconds = int(self._wire.exchange.elapsed * 1000)
        return [(b"openai-processing-ms", b"%d" % milliseconds), *self._rate_limit_headers]

    async def see_through(self, work: Callable[[], Awaitable[None]], leave: Callable[[], None]) -> None:
        """Do all of the work for an answer, have `leave` called if the client leaves meanwhile, and tell the
        client of an error."""
        self._wire.watch(leave)
        try:
            await work()
        except Exception as error:
            await self.report(error)
        finally:
            self._wire.watch(None)

    async def send(self, body: bytes, receipt: Receipt | None) -> None:
        """A whole JSON document, with the receipt for it."""
        told = [] if receipt is None else [(RECEIPT_HEADER, receipt.text.encode())]
        await self._wire.answer([*JSON, *self.headers(), *told], body)

    async def report(self, error: Exception) -> None:
        """Tell the client of an error, in mid-stream or instead of an answer; raises nothing."""
        known: FareboxError = as_farebox_error(error)
        if known is not error:
            log.error("request.failed", exc_info=error)
        self._wire.exchange.facts["error"] = known.code
        try:
            await self._send_error(known)
        except Exception:
            log.exception("request.error_unsent")
        finally:
            if not self._wire.complete:
                self._wire.cut()

    async def _send_error(self, error: FareboxError) -> None:
        envelope = error.envelope(self._wire.exchange.external_id)
        if self._wire.started:
            await self._wire.write(error_event(envelope), last=True)
        else:
            headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
            await self._send(error.status, msgspec.json.encode(envelope), headers)

    async def _send(self, status: int, body: bytes, headers: Headers) -> None:
        if not self._wire.gone:
            await self._wire.start(status, [*JSON, (b"content-length", b"%d" % len(body)), *headers])
            await self._wire.write(body, last=True)


async def write_document(
    threads: FairThreads, tenant: UUID, write: Callable[[], bytes], pieces: int
) -> bytes:
    """What `write` gives, which has so many `pieces` to write: texts, numbers, labels."""
    if pieces <= INLINE_PIECES:
        return write()
    return await threads.run(tenant, write)


def error_event(envelope: object) -> bytes:
    """What a stream that fails half-way says; the official client raises its APIError on it."""
    return b"data: " + msgspec.json.encode(envelope) + b"\n\n"
