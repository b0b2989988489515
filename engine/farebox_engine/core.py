"""The engine's step, free of threads and event loops."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from farebox_engine.accounting import DeviceLedger, TokenRate
from farebox_engine.blocks import BlockPool
from farebox_engine.grammar import Matcher
from farebox_engine.outputs import EngineStats, FinishReason, Usage
from farebox_engine.runner import ModelRunner
from farebox_engine.sampler import Sampled
from farebox_engine.scheduler import Scheduler
from farebox_engine.sequence import Sequence, Span
from farebox_engine.transcript import Delta

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Update:
    """What a step brought one sequence; the last one carries `finish_reason` and `usage`."""

    sequence: Sequence
    delta: Delta
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    error: str | None = None


class EngineCore:
    """Schedules, computes, charges and collects, one `step` at a time; single-threaded."""

    def __init__(
        self, scheduler: Scheduler, pool: BlockPool, runner: ModelRunner, ledger: DeviceLedger
    ) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._runner = runner
        self._ledger = ledger
        self._rate = TokenRate()
        self._steps = 0
        self._failed_steps = 0
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens = 0

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    def add(self, sequence: Sequence) -> None:
        self._scheduler.add(sequence)

    def has(self, sequence: Sequence) -> bool:
        """Whether the sequence waits or runs; false once it has ended."""
        return sequence in self._scheduler

    def step(self) -> list[Update]:
        """Compute one batch; returns an update for each sequence that has something new."""
        spans = self._schedule()
        started = time.perf_counter()
        try:
            result = self._runner.run(spans)
        except Exception:
            _log.exception("engine.step_failed")
            return self._fail(spans, time.perf_counter() - started)
        self._steps += 1
        self._ledger.charge(spans, result.busy_seconds)
        updates = (self._advance(span, sampled) for span, sampled in result.sampled)
        return [update for update in updates if update is not None]

    def cancel(self, sequence: Sequence) -> Update:
        """End a sequence that has not ended, wherever it is, and free its blocks."""
        return self._end(sequence, FinishReason.CANCELLED)

    def stats(self) -> EngineStats:
        """A snapshot; safe to take from another thread."""
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            free_blocks=self._pool.free,
            total_blocks=self._pool.num_blocks,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            preemptions=self._scheduler.preemptions,
            failed_steps=self._failed_steps,
            busy_seconds=self._ledger.busy_seconds,
            operator_seconds=self._ledger.operator_seconds,
            tokens_per_second=self._rate.per_second(time.perf_counter()),
        )

    def _schedule(self) -> list[Span]:
        spans = self._scheduler.schedule()
        now = time.perf_counter()
        for span in spans:
            if span.sequence.scheduled_at is None:
                span.sequence.scheduled_at = now
                self._prompt_tokens += span.sequence.prompt_length
                self._cached_tokens += span.sequence.cached_tokens
        return spans

    def _advance(self, span: Span, sampled: Sampled | None) -> Update | None:
        """Take up what the step computed for one sequence."""
        sequence = span.sequence
        if sampled is None:
            self._scheduler.commit(span)
            return None
        if sampled.token is None:
            return self._discard(sequence, "The model's output was not a number.")
        self._scheduler.commit(span)
        return self._take_token(sequence, sampled.token, sampled)

    def _take_token(self, sequence: Sequence, token: int, sampled: Sampled) -> Update:
        now = time.perf_counter()
        if sequence.first_token_at is None:
            sequence.first_token_at = now
        self._rate.add(now, 1)
        self._completion_tokens += 1
        sequence.append(token)
        if token in sequence.end_token_ids:
            sequence.transcript.feed_end(token)
            return self._end(sequence, FinishReason.STOP)
        if sequence.transcript.feed(token, sampled.logprobs):
            return self._end(sequence, FinishReason.STOP)
        if sequence.matcher is not None and sequence.matcher.ended:
            return self._end_of_grammar(sequence, sequence.matcher)
        if sequence.completion_length >= sequence.token_limit:
            return self._end(sequence, FinishReason.LENGTH)
        return Update(sequence, sequence.transcript.take())

    def _end(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> Update:
        self._scheduler.remove(sequence)
        complete = reason in {FinishReason.STOP, FinishReason.LENGTH}
        delta = sequence.transcript.finish() if complete else sequence.transcript.take()
        return Update(sequence, delta, reason, sequence.usage(time.perf_counter()), error)

    def _end_of_grammar(self, sequence: Sequence, matcher: Matcher) -> Update:
        if matcher.failed:
            return self._end(sequence, FinishReason.ERROR, "The grammar is too complex for this answer.")
        return self._end(sequence, FinishReason.STOP)

    def _fail(self, spans: Seq[Span], busy_seconds: float) -> list[Update]:
        """End the requests of a step that raised; the others never notice."""
        self._failed_steps += 1
        self._ledger.write_off(busy_seconds)
        return [
            self._discard(span.sequence, "The model failed while computing this request.") for span in spans
        ]

    def _discard(self, sequence: Sequence, error: str) -> Update:
        """End a sequence whose blocks may hold rubbish: nobody may reuse or even read over them."""
        own = [block for block in sequence.blocks if self._pool.holders(block) == 1]
        self._pool.forget(own)
        self._runner.clear(own)
        return self._end(sequence, FinishReason.ERROR, error)
