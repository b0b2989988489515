"""One admitted inference request, from the engine's first step to its settlement."""

from contextlib import aclosing
from functools import partial

import structlog

from farebox.core.fair_threads import FairThreads
from farebox.gateway.completions.delivery import Delivery
from farebox.gateway.completions.interleaving import interleave
from farebox.gateway.completions.jobs.job import CompletionJob
from farebox.gateway.completions.tally import Tally
from farebox.gateway.completions.writers.choices import ChoiceBuffer
from farebox.gateway.completions.writers.events import DONE
from farebox.gateway.completions.writers.writer import Writer
from farebox.gateway.errors import GenerationFailed, GrammarStuck, InvalidParameter, LeaseLost, ShuttingDown
from farebox.gateway.handover import hand_over
from farebox.gateway.models.backend import InferenceBackend
from farebox.gateway.models.errors import ClosedError, RequestError
from farebox.gateway.models.generation import Chunk, FinishReason, Generation, GenerationRequest
from farebox.gateway.responder import Responder, write_document
from farebox.gateway.telemetry import record
from farebox.gateway.transport.wire import Headers, Wire
from farebox.metering.admission import Grant
from farebox.metering.meter import Meter
from farebox.metering.receipts.batch import Receipt
from farebox.metering.settlement import Status

EVENT_STREAM: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

log = structlog.get_logger(__name__)


class CompletionRun:
    """Generates, delivers and settles.

    `execute` tells errors to the client instead of raising them. A task that is cancelled settles first.
    """

    def __init__(
        self,
        job: CompletionJob,
        grant: Grant,
        meter: Meter,
        wire: Wire,
        writer: Writer,
        threads: FairThreads,
    ) -> None:
        self._job = job
        self._grant = grant
        self._meter = meter
        self._wire = wire
        self._writer = writer
        self._threads = threads
        self._responder = Responder(wire, grant.quotas)
        self._tally = Tally([len(prompt) for prompt in job.prompts], job.n)
        self._delivery = Delivery(self._tally, job.choices, grant.record_delivery)
        self._document = b""
        self._buffers = [ChoiceBuffer() for _ in range(0 if job.stream else job.choices)]
        self._generations: list[Generation] = []
        self._ended_well = 0
        self._receipt: Receipt | None = None

    async def execute(self) -> None:
        """The whole life of the request, errors told to the client included."""
        await self._responder.see_through(self._answer, self.leave)

    def leave(self) -> None:
        """The client has left: stop at the next step."""
        if not self._wire.flushed:
            self._delivery.lost()
        self._wire.leave()
        self._cancel()

    def stop(self) -> None:
        """This process ends, or has lost its lease: stop at the next step. The client, who is still there,
        is told."""
        self._cancel()

    async def _answer(self) -> None:
        try:
            with self._job.model.in_use():
                await self._generate_and_settle(self._job.model.generator)
            await self._finish()
        finally:
            hand_over(self._meter, self._grant, self._wire)

    async def _generate_and_settle(self, backend: InferenceBackend) -> None:
        status: Status = "failed"
        try:
            self._submit(backend)
            self._grant.stop_when_lost(self.stop)
            await self._generate()
            await self._compose()
            handed_over = not self._job.stream or self._delivery.tokens == self._tally.completion_tokens
            done = self._ended_well == self._job.choices
            # A whole answer is handed over after it is settled, if there is somebody to take it.
            left = self._wire.gone and not self._job.stream
            status = "completed" if done and handed_over and not left else "cancelled"
        finally:
            self._cancel()
            await self._settle(status)

    def _submit(self, backend: InferenceBackend) -> None:
        job = self._job
        request_id = self._wire.exchange.external_id
        try:
            for index in range(job.choices):
                self._generations.append(
                    backend.generate(
                        GenerationRequest(
                            f"{request_id}-{index}",
                            job.prompts[index // job.n],
                            job.params_of(index),
                            self._grant.cache_salt,
                            job.grammar,
                            tenant=self._grant.organization_id.bytes,
                            priority=job.priority,
                            counts_reasoning=job.new_parser is not None,
                            spells_marks=job.new_parser is not None,
                            tells_when_served=True,
                        )
                    )
                )
        except RequestError as error:
            raise InvalidParameter(str(error), error.param) from None
        except ClosedError:
            raise ShuttingDown from None
        if self._wire.gone:  # while it was admitted: before there was anything to cancel
            self._cancel()

    async def _generate(self) -> None:
        if len(self._generations) == 1:
            if self._job.stream:
                self._generations[0].tap(self._deliver_at_once)
            async for chunk in self._generations[0]:
                await self._take(0, chunk)
            return
        async with aclosing(interleave(self._generations)) as chunks:
            async for index, chunk in chunks:
                await self._take(index, chunk)

    async def _take(self, index: int, chunk: Chunk) -> None:
        self._note(index, chunk)
        if self._wire.gone:
            self._cancel()
        elif self._job.stream:
            await self._deliver(index, chunk)
        else:
            self._buffers[index].add(chunk)

    def _note(self, index: int, chunk: Chunk) -> None:
        self._tally.note(index, chunk)
        if chunk.finish_reason is None:
            return
        if chunk.finish_reason is FinishReason.STUCK and self._job.grammar is not None:
            raise GrammarStuck(chunk.error or "", self._job.grammar.param)
        if chunk.finish_reason is FinishReason.ERROR:
            log.error("generation.failed", model=self._job.model.id, reason=chunk.error)
            raise GenerationFailed
        if chunk.finish_reason is not FinishReason.CANCELLED:
            self._ended_well += 1

    async def _deliver(self, index: int, chunk: Chunk) -> None:
        if chunk.finish_reason is FinishReason.CANCELLED:
            return
        self._delivery.hold(index, chunk.delivered_tokens)
        data = self._writer.events(index, chunk)
        if data:
            await self._begin()
            self._note_write(index, await self._wire.write(data))
        elif self._ended_well == self._job.choices:
            # All text is out: what is held back is the word that it has ended.
            self._note_write(index, not self._wire.gone)
        if self._grant.delivered:
            self._generations[index].mark_served()

    async def _begin(self) -> None:
        if not self._wire.started:
            await self._wire.start_stream([*EVENT_STREAM, *self._responder.headers()])

    def _deliver_at_once(self, chunk: Chunk) -> bool:
        """Deliver a piece of plain text to a client that keeps up, which is most of what streams are made of.

        Without waking this run's task for it, a third of the work is saved. False if the task has to do it.
        """
        if not self._wire.ready:
            return False
        data = self._writer.plain_event(0, chunk)
        if data is None:
            return False
        self._delivery.hold(0, chunk.delivered_tokens)
        if data:
            self._note_write(0, self._wire.write_now(data))
        return True

    def _note_write(self, index: int, reached: bool) -> None:
        if reached:
            self._delivery.written(index, flushed=self._wire.flushed)

    async def _compose(self) -> None:
        # Before it is billed: an answer that cannot be written must not be.
        if self._job.stream or self._ended_well < self._job.choices:
            return
        write = partial(self._writer.document, self._buffers, self._tally.completion_usage())
        pieces = sum(buffer.pieces for buffer in self._buffers)
        self._document = await write_document(self._threads, self._grant.organization_id, write, pieces)

    async def _settle(self, status: Status) -> None:
        self._delivery.end()
        whole = status == "completed" and not self._job.stream
        settlement = self._tally.settlement(status, self._delivery.tokens, to_be_handed_over=whole)
        model = self._job.model
        settled = await self._meter.settle(self._grant, settlement, model_sha256=model.offered_sha256)
        self._receipt = settled.receipt
        record(self._wire.exchange, model.id, self._job.choices, self._grant, settlement, settled)

    async def _finish(self) -> None:
        if self._wire.gone:
            return
        if self._ended_well < self._job.choices:
            raise LeaseLost if self._grant.lease_lost else ShuttingDown
        if self._job.stream:
            await self._begin()
            receipt = None if self._receipt is None else self._receipt.text
            closing = self._writer.closing_events(self._tally.completion_usage(), receipt)
            await self._wire.write(closing + DONE, last=True)
            return
        await self._responder.send(self._document, self._receipt)
        if self._wire.complete:
            for generation in self._generations:
                generation.mark_served()

    def _cancel(self) -> None:
        for generation in self._generations:
            generation.cancel()
