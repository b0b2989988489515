"""The engine's step, free of threads and event loops."""

from __future__ import annotations

import time
from collections.abc import Sequence as Seq
from dataclasses import replace

from farebox_engine.decoders.accounting import DecoderAccounting
from farebox_engine.decoders.output_processor import DecoderOutputProcessor
from farebox_engine.execution.runner import Runner, StepResult
from farebox_engine.outputs import EngineStats, FinishReason
from farebox_engine.scheduling.scheduler import Scheduler
from farebox_engine.scheduling.sequence import Sequence, SequenceOutput, Span
from farebox_engine.serving.attempts import FAILED, Attempts
from farebox_engine.serving.bisection import Computed
from farebox_engine.serving.fence import Fence
from farebox_engine.serving.runner_slot import RunnerSlot


class DecoderCore:
    """Schedules, runs and settles, one `step` at a time: a `core_protocol.Core`."""

    def __init__(self, scheduler: Scheduler, slot: RunnerSlot[Runner], accounting: DecoderAccounting) -> None:
        self._scheduler = scheduler
        self._slot = slot
        self._accounting = accounting
        self._attempts: Attempts[Span] = Attempts(accounting.ledger, scheduler.limit)
        self._processor = DecoderOutputProcessor(scheduler, accounting)
        self._steps = 0
        self._prompt_tokens = 0
        self._reused_tokens = 0

    @property
    def fence(self) -> Fence[Span]:
        return self._attempts.fence

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    @property
    def ready(self) -> bool:
        """Whether there is a cache; not while a new one is being built, nor after that failed."""
        return self._slot.ready

    def add(self, sequence: Sequence) -> None:
        self._scheduler.add(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence, wherever it is, and free its blocks; nothing if it has ended."""
        if sequence in self._scheduler:
            self._processor.end(sequence, FinishReason.CANCELLED)

    def note_served(self, sequence: Sequence) -> None:
        """Note, from any thread, that a sequence was served; it may have ended."""
        self._scheduler.note_served(sequence)

    def step(self) -> None:
        """Compute one batch.

        Raises:
            Abandoned: this thread was given up meanwhile and must leave the core alone.
        """
        if spans := self._schedule():
            computed = self._run(spans)
            self._settle(computed)

    def collect(self) -> list[SequenceOutput]:
        """What there is for the sequences since the last call."""
        return self._processor.collect()

    def recover(self, error: str) -> None:
        """Take over from a thread that hung or broke: end the sequences it was at, requeue the others.

        What the cache holds is lost; call `rebuild` before the next step.
        """
        for sequence in self._attempts.take_over(
            item=lambda span: span.sequence,
            present=self._scheduler.__contains__,
            running=self._scheduler.running,
        ):
            self._processor.end(sequence, FinishReason.ERROR, error)
        self._scheduler.requeue()

    def rebuild(self) -> None:
        """Go on with a new cache; see `RunnerSlot.rebuild`."""
        self._scheduler.use(self._slot.rebuild(self.fence))

    def end_all(self, error: str) -> None:
        """End every sequence, running or waiting."""
        self._scheduler.requeue()
        while (sequence := self._scheduler.waiting.peek()) is not None:
            self._processor.end(sequence, FinishReason.ERROR, error)

    def stats(self) -> EngineStats:
        """A snapshot; safe to take from another thread."""
        processor, ledger = self._processor, self._accounting.ledger
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            free_blocks=self._slot.pool.free,
            total_blocks=self._slot.pool.num_blocks,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._reused_tokens,
            completion_tokens=processor.completion_tokens,
            preemptions=self._scheduler.preemptions,
            failed_steps=self._attempts.failed_steps,
            busy_seconds=ledger.busy_ns / 1e9,
            operator_seconds=ledger.operator_ns / 1e9,
            tokens_per_second=processor.rate.per_second(time.perf_counter()),
            discarded_tokens=self._accounting.discarded_tokens,
            draft_tokens=processor.draft_tokens,
            accepted_draft_tokens=processor.accepted_draft_tokens,
        )

    def _schedule(self) -> list[Span]:
        for sequence in self._slot.runner.outgrown(self._scheduler.running):
            self._scheduler.restart(sequence)
        spans = self._scheduler.schedule()
        now = time.perf_counter()
        for span in spans:
            if span.sequence.scheduled_at is None:
                span.sequence.scheduled_at = now
                self._prompt_tokens += span.sequence.prompt_length
                self._reused_tokens += span.sequence.reused_tokens
        return spans

    def _run(self, spans: Seq[Span]) -> Computed[Span, StepResult]:
        return self._attempts.run(self._slot.runner.run, spans, tokens=_length, shorten=_shorten)

    def _settle(self, computed: Computed[Span, StepResult]) -> None:
        """Hand out what was computed, and only then touch the device again, for what came out wrong."""
        self._steps += 1
        broken: list[tuple[Span, str | None]] = [(span, FAILED) for span in computed.failed]
        for result in computed.results:
            broken += self._processor.process(result)
        for span, error in broken:
            self._discard(span, error)

    def _discard(self, span: Span, error: str | None) -> None:
        """End a sequence whose blocks may hold rubbish: nobody may reuse or even read over them.

        Without an `error` it is computed again, with no more drafts.
        """
        sequence = span.sequence
        if sequence not in self._scheduler:
            return
        own = [block for block in sequence.blocks if self._slot.pool.holders(block) == 1]
        self._slot.pool.forget(own)
        with self.fence.guard([span]):
            self._slot.runner.clear(own)
        if error is not None:
            self._processor.end(sequence, FinishReason.ERROR, error)
            return
        if sequence.drafter is not None:
            sequence.drafter.stop()
        self._scheduler.send_back(sequence)


def _length(span: Span) -> int:
    return span.length


def _shorten(span: Span, short_of_memory: bool) -> Span | None:
    """What to try instead of a span that failed alone."""
    if span.drafts:
        # A failure over what was only guessed is not the request's.
        return span.without_drafts
    if short_of_memory and span.length > 1:
        # The rest of the prompt is left to later steps.
        return replace(span, length=span.length // 2)
    return None
