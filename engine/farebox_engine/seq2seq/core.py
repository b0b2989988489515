"""The step of an encoder-decoder engine, free of threads and event loops."""

from __future__ import annotations

import logging
import time
from typing import Any

from farebox_engine.outputs import EngineStats, FinishReason
from farebox_engine.sampling.sampler import Sampled
from farebox_engine.scheduling.sequence import Sequence, Update
from farebox_engine.seq2seq.accounting import DeviceLedger
from farebox_engine.seq2seq.beam import Candidate
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.seq2seq.runner import Outcome, Seq2SeqRunner
from farebox_engine.seq2seq.scheduler import Seq2SeqScheduler
from farebox_engine.serving import bisection
from farebox_engine.serving.bisection import compute
from farebox_engine.serving.cache_seat import CacheSeat
from farebox_engine.serving.fence import Fence
from farebox_engine.serving.token_rate import TokenRate

_log = logging.getLogger(__name__)

_FAILED = "The model failed while computing this request."
_NOT_A_NUMBER = "The model's output was not a number."


class Seq2SeqCore:
    """Encodes who is new, decodes who is there, charges and collects: a `supervised.Core`."""

    def __init__(
        self,
        scheduler: Seq2SeqScheduler,
        seat: CacheSeat[Seq2SeqRunner],
        ledger: DeviceLedger,
    ) -> None:
        self.fence: Fence[Decoding] = Fence()
        self._scheduler = scheduler
        self._seat = seat
        self._ledger = ledger
        self._rate = TokenRate()
        # Kept here until collected, so that none is lost when a step ends half-way.
        self._updates: list[Update] = []
        self._steps = 0
        self._failed_steps = 0
        self._prompt_tokens = 0
        self._completion_tokens = 0

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    @property
    def ready(self) -> bool:
        """See `supervised.Core`."""
        return not self._seat.vacant

    def add(self, sequence: Sequence) -> None:
        self._scheduler.add(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence, wherever it is, and free its blocks; nothing if it has ended."""
        if sequence in self._scheduler:
            self._end(sequence, FinishReason.CANCELLED)

    def step(self) -> None:
        """Encode the sources there is room for, then one token for every hypothesis."""
        if admitted := self._scheduler.admit():
            self._encode(self._seat.runner, admitted)
        if decodings := self._scheduler.decodings():
            self._decode(self._seat.runner, decodings)

    def collect(self) -> list[Update]:
        """What there is for the sequences since the last call."""
        updates, self._updates = self._updates, []
        return updates

    def recover(self, error: str) -> None:
        """See `supervised.Core`. What the cache holds is lost: sources and targets are computed again."""
        self._ledger.write_off(round(self.fence.seconds_inside * 1e9))
        self._failed_steps += 1
        last = [each.sequence for each in self.fence.parts if each.sequence in self._scheduler]
        running = [each.sequence for each in self._scheduler.decodings()]
        self.fence = Fence()
        # Something has to end, or the same would happen again and again.
        for sequence in last or running:
            self._end(sequence, FinishReason.ERROR, error)
        self._scheduler.requeue()

    def rebuild(self) -> None:
        """Go on with a new cache; see `CacheSeat.renew`."""
        self._seat.renew(self.fence)
        self._scheduler.use(self._seat.pool)

    def end_all(self, error: str) -> None:
        """End every sequence, running or waiting."""
        for sequence in self._scheduler.sequences():
            self._end(sequence, FinishReason.ERROR, error)

    def stats(self) -> EngineStats:
        """A snapshot; safe to take from another thread."""
        return EngineStats(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            free_blocks=self._seat.pool.free,
            total_blocks=self._seat.pool.num_blocks,
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=0,
            completion_tokens=self._completion_tokens,
            preemptions=0,
            failed_steps=self._failed_steps,
            busy_seconds=self._ledger.busy_ns / 1e9,
            operator_seconds=self._ledger.operator_ns / 1e9,
            tokens_per_second=self._rate.per_second(time.perf_counter()),
        )

    def _encode(self, runner: Seq2SeqRunner, decodings: list[Decoding]) -> None:
        now = time.perf_counter()
        for each in decodings:
            if each.sequence.scheduled_at is None:
                each.sequence.scheduled_at = now
                self._prompt_tokens += each.source_length
        outcome = compute(runner.encode, decodings, self.fence)
        self._account(outcome)
        if outcome.short_of_memory:
            sizes = [sum(each.source_length for each in result.decodings) for result in outcome.results]
            self._scheduler.limit.lower(max(sizes, default=1))
        for result in outcome.results:
            self._ledger.charge_encoding(result.decodings, result.busy_ns)
            for each in result.decodings:
                each.encoded = True
        for each in outcome.failed:
            self._discard(each, _FAILED)

    def _decode(self, runner: Seq2SeqRunner, decodings: list[Decoding]) -> None:
        self._scheduler.make_room(decodings)
        outcome = compute(runner.decode, decodings, self.fence)
        self._steps += 1
        self._account(outcome)
        sick = [(each, _FAILED) for each in outcome.failed]
        for result in outcome.results:
            self._ledger.charge_decoding([each for each, _ in result.outcomes], result.busy_ns)
            sick += [
                (each, error) for each, found in result.outcomes if (error := self._advance(each, found))
            ]
        for each, error in sick:
            self._discard(each, error)

    def _account(self, outcome: bisection.Outcome[Decoding, Any]) -> None:
        """Charge the operator for the attempts that failed."""
        self._ledger.write_off(round(outcome.wasted_seconds * 1e9))
        if outcome.attempts_failed:
            self._failed_steps += 1

    def _advance(self, decoding: Decoding, outcome: Outcome) -> str | None:
        """Take up what the step computed for one request; returns what was wrong with it."""
        sequence, lagged = decoding.sequence, decoding.lags
        if outcome is None or (isinstance(outcome, Sampled) and outcome.token is None):
            return _NOT_A_NUMBER
        self._scheduler.commit(decoding)
        if lagged:
            return None
        if sequence.first_token_at is None:
            sequence.first_token_at = time.perf_counter()
        try:
            if isinstance(outcome, Sampled):
                self._take_token(decoding, outcome)
            else:
                self._take_candidates(decoding, outcome)
        except Exception:
            _log.exception("engine.sequence_failed")
            return _FAILED
        return None

    def _take_token(self, decoding: Decoding, sampled: Sampled) -> None:
        sequence, token = decoding.sequence, sampled.token
        if token is None:
            raise TypeError("nothing was sampled")
        self._count()
        sequence.append(token)
        decoding.rows[0].tokens.append(token)
        if token in sequence.end_token_ids:
            sequence.transcript.feed_end(token)
            forced = decoding.constraints.ends_by_force(decoding.rows[0].tokens)
            self._end(sequence, FinishReason.LENGTH if forced else FinishReason.STOP)
        elif sequence.transcript.feed(token, sampled.logprobs):
            self._end(sequence, FinishReason.STOP)
        elif sequence.completion_length >= sequence.token_limit:
            self._end(sequence, FinishReason.LENGTH)
        else:
            self._updates.append(Update(sequence, sequence.transcript.take()))

    def _take_candidates(self, decoding: Decoding, candidates: list[Candidate]) -> None:
        beams = decoding.beams
        if beams is None:
            raise TypeError("a request without beams got candidates")
        going_on = beams.advance(candidates, [row.tokens for row in decoding.rows])
        if beams.done:
            self._deliver_best(decoding, beams.best)
            return
        rows = [
            Hypothesis(
                [*decoding.rows[each.parent].tokens, each.token], list(decoding.rows[each.parent].blocks)
            )
            for each in going_on
        ]
        self._scheduler.replace_rows(decoding, rows)

    def _deliver_best(self, decoding: Decoding, tokens: list[int]) -> None:
        """The end of a beam search: all of its text at once."""
        sequence, reason = decoding.sequence, FinishReason.LENGTH
        for token in tokens[1:]:
            self._count()
            sequence.append(token)
            if token in sequence.end_token_ids:
                sequence.transcript.feed_end(token)
                if not decoding.constraints.ends_by_force(tokens):
                    reason = FinishReason.STOP
                break
            if sequence.transcript.feed(token, None):
                reason = FinishReason.STOP
                break
        self._end(sequence, reason)

    def _count(self) -> None:
        self._completion_tokens += 1
        self._rate.add(time.perf_counter(), 1)

    def _end(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> None:
        decoding = self._scheduler.remove(sequence)
        if decoding is not None:
            sequence.device_seconds = decoding.device_ns / 1e9
        complete = reason in {FinishReason.STOP, FinishReason.LENGTH}
        delta = sequence.transcript.finish() if complete else sequence.transcript.take()
        self._updates.append(Update(sequence, delta, reason, sequence.usage(time.perf_counter()), error))

    def _discard(self, decoding: Decoding, error: str) -> None:
        """End a request whose blocks may hold rubbish, and see to it that nobody reads it."""
        blocks = {*decoding.source_blocks, *(block for row in decoding.rows for block in row.blocks)}
        if blocks:
            with self.fence.guard([decoding]):
                self._seat.runner.clear(sorted(blocks))
        self._end(decoding.sequence, FinishReason.ERROR, error)
