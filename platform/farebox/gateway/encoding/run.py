"""One request to an encoder, from admission to settlement."""

import asyncio
from functools import partial
from typing import Any

from farebox.core.fair_threads import FairThreads
from farebox.gateway.encoding.jobs import EncodingJob, pieces_of
from farebox.gateway.errors import GenerationFailed, ShuttingDown
from farebox.gateway.handover import hand_over
from farebox.gateway.models.encoder import EncoderUsage
from farebox.gateway.models.errors import ClosedError, ComputeError
from farebox.gateway.responder import Responder, write_document
from farebox.gateway.telemetry import record
from farebox.gateway.transport.wire import Wire
from farebox.metering.admission import Grant
from farebox.metering.meter import Meter
from farebox.metering.receipts.batch import Receipt
from farebox.metering.settlement import Settlement, Status


class EncodingRun:
    """An admitted request. `execute` tells errors to the client instead of raising them."""

    def __init__(
        self, job: EncodingJob, grant: Grant, meter: Meter, wire: Wire, writers: FairThreads
    ) -> None:
        self._job = job
        self._grant = grant
        self._meter = meter
        self._wire = wire
        self._writers = writers
        self._responder = Responder(wire, grant.quotas)
        self._computing: asyncio.Task[Any] | None = None
        self._receipt: Receipt | None = None
        self._stopped = False

    async def execute(self) -> None:
        """Compute, settle, answer."""
        await self._responder.see_through(self._answer, self.leave)

    def leave(self) -> None:
        """The client has left: what it asked for is taken out before the next step."""
        self._wire.leave()
        if self._computing is not None:
            self._computing.cancel()

    def stop(self) -> None:
        """This process ends. The client, who is still there, is told."""
        self._stopped = True
        if self._computing is not None:
            self._computing.cancel()

    async def _answer(self) -> None:
        try:
            with self._job.model.in_use():
                body = await self._compute_and_settle()
            if body is not None:
                await self._responder.send(body, self._receipt)
        finally:
            hand_over(self._meter, self._grant, self._wire)

    async def _compute_and_settle(self) -> bytes | None:
        """The answer; None when nobody is there to take it."""
        status: Status = "failed"
        usage: EncoderUsage | None = None
        body = None
        try:
            found = await self._compute()
            if found is not None:
                usage = found.usage
                # Before it is billed: an answer that cannot be written must not be.
                write = partial(self._job.write, found, self._grant.request_id.hex)
                tenant = self._grant.organization_id
                body = await write_document(self._writers, tenant, write, pieces_of(found))
            status = "cancelled" if body is None or self._wire.gone else "completed"
        finally:
            await self._settle(status, usage)
        return body if status == "completed" else None

    async def _compute(self) -> Any:
        tenant = self._grant.organization_id.hex
        self._computing = asyncio.ensure_future(self._job.model.encoder.compute(self._job.request, tenant))
        if self._wire.gone or self._stopped:
            self._computing.cancel()
        try:
            return await self._computing
        except asyncio.CancelledError:
            if self._stopped:
                raise ShuttingDown from None
            if not self._wire.gone:
                raise
            return None
        except ComputeError:
            raise GenerationFailed from None
        except ClosedError:
            raise ShuttingDown from None

    async def _settle(self, status: Status, usage: EncoderUsage | None) -> None:
        settlement = Settlement(
            status=status,
            input_tokens=self._job.prompt_tokens,
            cached_input_tokens=0,
            output_tokens=0,
            queue_seconds=usage.queue_seconds if usage else None,
            prefill_seconds=usage.compute_seconds if usage else None,
            device_seconds=usage.device_seconds if usage else None,
            to_be_handed_over=status == "completed",
        )
        settled = await self._meter.settle(
            self._grant, settlement, model_sha256=self._job.model.offered_sha256
        )
        self._receipt = settled.receipt
        record(self._wire.exchange, self._job.model.id, 1, self._grant, settlement, settled)
