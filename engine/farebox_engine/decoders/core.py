"""The engine's step, free of threads and event loops."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Seq
from dataclasses import replace

from farebox_engine.decoders.accounting import DeviceLedger
from farebox_engine.execution.runner import Runner, StepResult
from farebox_engine.grammar.compiler import Matcher
from farebox_engine.outputs import EngineStats, FinishReason, PromptDetails
from farebox_engine.sampling.sampler import Sampled
from farebox_engine.scheduling.scheduler import Scheduler
from farebox_engine.scheduling.sequence import Sequence, Span, Update
from farebox_engine.serving.bisection import compute
from farebox_engine.serving.cache_seat import CacheSeat
from farebox_engine.serving.fence import Fence
from farebox_engine.serving.token_rate import TokenRate
from farebox_engine.tokenization.transcript import EMPTY_DELTA

_log = logging.getLogger(__name__)

_FAILED = "The model failed while computing this request."
_BROKEN_PARSER = "The grammar's parser broke in mid-answer."
_NOT_A_NUMBER = "The model's output was not a number."


class EngineCore:
    """Schedules, computes, charges and collects, one `step` at a time: a `supervised.Core`."""

    def __init__(
        self,
        scheduler: Scheduler,
        seat: CacheSeat[Runner],
        ledger: DeviceLedger,
    ) -> None:
        self.fence: Fence[Span] = Fence()
        self._scheduler = scheduler
        self._seat = seat
        self._ledger = ledger
        self._rate = TokenRate()
        # Kept here until collected, so that none is lost when a step ends half-way.
        self._updates: list[Update] = []
        self._steps = 0
        self._failed_steps = 0
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._completion_tokens = 0
        self._draft_tokens = 0
        self._accepted_draft_tokens = 0

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    @property
    def ready(self) -> bool:
        """Whether there is a cache; not while a new one is being built, nor after that failed."""
        return not self._seat.vacant

    def add(self, sequence: Sequence) -> None:
        self._scheduler.add(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence, wherever it is, and free its blocks; nothing if it has ended."""
        if sequence in self._scheduler:
            self._end(sequence, FinishReason.CANCELLED)

    def step(self) -> None:
        """Compute one batch.

        Raises:
            Abandoned: this thread was given up meanwhile and must leave the core alone.
        """
        spans = self._schedule(self._seat.runner)
        if not spans:
            return
        outcome = compute(self._seat.runner.run, spans, self.fence, _shorten)
        self._steps += 1
        self._ledger.write_off(outcome.wasted_seconds)
        if outcome.attempts_failed:
            self._failed_steps += 1
        if outcome.short_of_memory:
            sizes = [sum(span.length for span, _ in result.sampled) for result in outcome.results]
            self._scheduler.limit.lower(max(sizes, default=1))
        sick: list[tuple[Span, str | None]] = [(span, _FAILED) for span in outcome.failed]
        for result in outcome.results:
            sick += self._take_up(result)
        for span, error in sick:
            self._discard(span, error)

    def collect(self) -> list[Update]:
        """What there is for the sequences since the last call."""
        updates, self._updates = self._updates, []
        return updates

    def recover(self, error: str) -> None:
        """Take over from a thread that hung or broke: end the sequences it was at, requeue the others.

        What the cache holds is lost; call `rebuild` before the next step.
        """
        self._ledger.write_off(self.fence.seconds_inside)
        self._failed_steps += 1
        last = [span.sequence for span in self.fence.parts if span.sequence in self._scheduler]
        self.fence = Fence()
        # Something has to end, or the same would happen again and again.
        for sequence in last or list(self._scheduler.running):
            self._end(sequence, FinishReason.ERROR, error)
        self._scheduler.requeue()

    def rebuild(self) -> None:
        """Go on with a new cache; see `CacheSeat.renew`."""
        self._seat.renew(self.fence)
        self._scheduler.use(self._seat.pool)

    def end_all(self, error: str) -> None:
        """End every sequence, running or waiting."""
        self._scheduler.requeue()
        while (sequence := self._scheduler.waiting.peek()) is not None:
            self._end(sequence, FinishReason.ERROR, error)

    def stats(self) -> EngineStats:
        """A snapshot; safe to take from another thread."""
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            free_blocks=self._seat.pool.free,
            total_blocks=self._seat.pool.num_blocks,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            preemptions=self._scheduler.preemptions,
            failed_steps=self._failed_steps,
            busy_seconds=self._ledger.busy_seconds,
            operator_seconds=self._ledger.operator_seconds,
            tokens_per_second=self._rate.per_second(time.perf_counter()),
            discarded_tokens=self._ledger.discarded_tokens,
            draft_tokens=self._draft_tokens,
            accepted_draft_tokens=self._accepted_draft_tokens,
        )

    def _schedule(self, runner: Runner) -> list[Span]:
        for sequence in runner.outgrown(self._scheduler.running):
            self._scheduler.restart(sequence)
        spans = self._scheduler.schedule()
        now = time.perf_counter()
        for span in spans:
            if span.sequence.scheduled_at is None:
                span.sequence.scheduled_at = now
                self._prompt_tokens += span.sequence.prompt_length
                self._cached_tokens += span.sequence.cached_tokens
        return spans

    def _take_up(self, result: StepResult) -> list[tuple[Span, str | None]]:
        """Charge for and hand out what was computed; returns what `_discard` is to be called for."""
        after_drafts = result.after_drafts
        unusable = {
            span.sequence: span.length
            for span, sampled in result.sampled
            if any(map(_is_unusable, (sampled, *after_drafts.get(span.sequence, ()))))
        }
        shares = self._ledger.charge([span for span, _ in result.sampled], result.busy_seconds, unusable)
        sick: list[tuple[Span, str | None]] = []
        for span, sampled in result.sampled:
            sequence = span.sequence
            sequence.draft_tokens += len(span.drafts)
            self._draft_tokens += len(span.drafts)
            if sequence in unusable:
                # After a draft it may be the draft's fault.
                sick.append((span, None if sampled and sampled.token is not None else _NOT_A_NUMBER))
                continue
            try:
                sequence.prompt_scores += result.prompt_scores.get(sequence, ())
                self._take_tokens(span, sampled, after_drafts.get(sequence, ()), shares.get(sequence, 0.0))
            except Exception:
                _log.exception("engine.sequence_failed")
                sick.append((span, _FAILED))
        return sick

    def _take_tokens(
        self, span: Span, sampled: Sampled | None, after_drafts: Seq[Sampled], draft_seconds: float
    ) -> None:
        """Take up what was sampled, after the drafts too for as long as they are what was sampled.

        Each such draft is to the sequence what a step of its own would have been.
        """
        if not span.drafts:
            self._advance(span, sampled)
            return
        sequence, accepted = span.sequence, 0
        try:
            self._advance(span.settled, sampled)
            for draft, after in zip(span.drafts, after_drafts, strict=True):
                if sequence not in self._scheduler or sequence.tokens[-1] != draft:
                    break
                accepted += 1
                sequence.accepted_draft_tokens += 1
                self._ledger.accept(sequence, draft_seconds)
                self._advance(Span(sequence, sequence.computed, 1), after)
        finally:
            refused = len(span.drafts) - accepted
            self._accepted_draft_tokens += accepted
            self._ledger.refuse(refused, refused * draft_seconds)
        if sequence.drafter is not None:
            sequence.drafter.learn(len(span.drafts), accepted)
            self._scheduler.settle(sequence)

    def _advance(self, span: Span, sampled: Sampled | None) -> None:
        self._scheduler.commit(span)
        if sampled is None or _is_unusable(sampled):
            return
        sequence = span.sequence
        if not sequence.completion_length and sequence.request.params.describes_prompt:
            self._updates.append(Update(sequence, EMPTY_DELTA, prompt=_describe_prompt(sequence)))
        if not sequence.token_limit:
            self._end(sequence, FinishReason.LENGTH)
        elif sequence.matcher is not None and sequence.matcher.failed:
            # What was sampled under a mask that could not be computed is not the model's word.
            self._end_of_grammar(sequence, sequence.matcher)
        elif sampled.token is None:
            self._end(sequence, FinishReason.EXHAUSTED)
        else:
            self._take_token(sequence, sampled.token, sampled)

    def _take_token(self, sequence: Sequence, token: int, sampled: Sampled) -> None:
        now = time.perf_counter()
        if sequence.first_token_at is None:
            sequence.first_token_at = now
        self._rate.add(now, 1)
        self._completion_tokens += 1
        self._scheduler.charge_output(sequence)
        sequence.append(token)
        if token in sequence.end_token_ids:
            sequence.transcript.feed_end(token)
            self._end(sequence, FinishReason.STOP)
        elif sequence.transcript.feed(token, sampled.logprobs, may_stop=sequence.may_stop):
            self._end(sequence, FinishReason.STOP)
        elif sequence.matcher is not None and sequence.matcher.ended:
            self._end_of_grammar(sequence, sequence.matcher)
        elif sequence.completion_length >= sequence.token_limit:
            self._end(sequence, FinishReason.LENGTH)
        else:
            self._updates.append(Update(sequence, sequence.transcript.take()))

    def _end(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> None:
        self._scheduler.remove(sequence)
        # Whoever still reads the answer must not keep an unloaded adapter in memory.
        sequence.adapter = None
        complete = reason not in {FinishReason.CANCELLED, FinishReason.ERROR, FinishReason.STUCK}
        delta = sequence.transcript.finish() if complete else sequence.transcript.take()
        self._updates.append(Update(sequence, delta, reason, sequence.usage(time.perf_counter()), error))

    def _end_of_grammar(self, sequence: Sequence, matcher: Matcher) -> None:
        if not matcher.failed:
            self._end(sequence, FinishReason.STOP)
        elif (obstacle := matcher.obstacle) is not None:
            self._end(sequence, FinishReason.STUCK, obstacle)
        else:
            self._end(sequence, FinishReason.ERROR, _BROKEN_PARSER)

    def _discard(self, span: Span, error: str | None) -> None:
        """End a sequence whose blocks may hold rubbish: nobody may reuse or even read over them.

        Without an `error` it is computed again, with no more drafts.
        """
        sequence = span.sequence
        if sequence not in self._scheduler:
            return
        own = [block for block in sequence.blocks if self._seat.pool.holders(block) == 1]
        self._seat.pool.forget(own)
        with self.fence.guard([span]):
            self._seat.runner.clear(own)
        if error is not None:
            self._end(sequence, FinishReason.ERROR, error)
            return
        if sequence.drafter is not None:
            sequence.drafter.stop()
        self._scheduler.send_back(sequence)


def _is_unusable(sampled: Sampled | None) -> bool:
    """Whether the model gave something that is no number."""
    return sampled is not None and sampled.token is None and not sampled.exhausted


def _shorten(span: Span, short_of_memory: bool) -> Span | None:
    if span.drafts:
        # A failure over what was only guessed is not the request's.
        return span.settled
    if short_of_memory and span.length > 1:
        # The rest of the prompt is left to later steps.
        return replace(span, length=span.length // 2)
    return None


def _describe_prompt(sequence: Sequence) -> PromptDetails:
    params = sequence.request.params
    scores = None if params.prompt_logprobs is None else sequence.prompt_scores
    return sequence.transcript.describe_prompt(sequence.request.prompt_token_ids, scores, echo=params.echo)
