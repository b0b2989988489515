"""The step of an encoder-decoder engine, free of threads and event loops."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Seq

from farebox_engine.accounting import TokenRate
from farebox_engine.blocks import BlockPool
from farebox_engine.core import Update
from farebox_engine.outputs import EngineStats, FinishReason
from farebox_engine.sampler import Sampled
from farebox_engine.seq2seq.accounting import DeviceLedger
from farebox_engine.seq2seq.beam import Candidate
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.seq2seq.runner import Outcome, Seq2SeqRunner
from farebox_engine.seq2seq.scheduler import Seq2SeqScheduler
from farebox_engine.sequence import Sequence

_log = logging.getLogger(__name__)

_FAILED = "The model failed while computing this request."
_NOT_A_NUMBER = "The model's output was not a number."


class Seq2SeqCore:
    """Encodes who is new, decodes who is there, charges and collects, one `step` at a time."""

    def __init__(
        self, scheduler: Seq2SeqScheduler, pool: BlockPool, runner: Seq2SeqRunner, ledger: DeviceLedger
    ) -> None:
        self._scheduler = scheduler
        self._pool = pool
        self._runner = runner
        self._ledger = ledger
        self._rate = TokenRate()
        self._steps = 0
        self._failed_steps = 0
        self._prompt_tokens = 0
        self._completion_tokens = 0

    @property
    def idle(self) -> bool:
        return self._scheduler.idle

    def add(self, sequence: Sequence) -> None:
        self._scheduler.add(sequence)

    def has(self, sequence: Sequence) -> bool:
        """Whether the sequence waits or runs; false once it has ended."""
        return sequence in self._scheduler

    def cancel(self, sequence: Sequence) -> Update:
        """End a sequence that has not ended, wherever it is, and free its blocks."""
        return self._end(sequence, FinishReason.CANCELLED)

    def step(self) -> list[Update]:
        """Encode the sources there is room for, then one token for every hypothesis."""
        updates = self._encode(self._scheduler.admit())
        return updates + self._decode(self._scheduler.decodings())

    def stats(self) -> EngineStats:
        """A snapshot; safe to take from another thread."""
        return EngineStats(
            running=self._scheduler.running,
            waiting=self._scheduler.waiting,
            free_blocks=self._pool.free,
            total_blocks=self._pool.num_blocks,
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

    def _encode(self, decodings: list[Decoding]) -> list[Update]:
        if not decodings:
            return []
        now = time.perf_counter()
        for each in decodings:
            each.sequence.scheduled_at = now
            self._prompt_tokens += each.source_length
        started = time.perf_counter_ns()
        try:
            self._runner.encode(decodings)
        except Exception:
            _log.exception("engine.encoding_failed")
            return self._fail(decodings, time.perf_counter_ns() - started)
        self._ledger.charge_encoding(decodings, time.perf_counter_ns() - started)
        return []

    def _decode(self, decodings: list[Decoding]) -> list[Update]:
        if not decodings:
            return []
        copies = self._scheduler.make_room(decodings)
        started = time.perf_counter_ns()
        try:
            outcomes = self._runner.decode(decodings, copies)
        except Exception:
            _log.exception("engine.decoding_failed")
            return self._fail(decodings, time.perf_counter_ns() - started)
        self._steps += 1
        self._ledger.charge_decoding(decodings, time.perf_counter_ns() - started)
        updates = (self._advance(decoding, outcome) for decoding, outcome in outcomes)
        return [update for update in updates if update is not None]

    def _advance(self, decoding: Decoding, outcome: Outcome) -> Update | None:
        """Take up what the step computed for one request."""
        sequence = decoding.sequence
        if outcome is None or (isinstance(outcome, Sampled) and outcome.token is None):
            return self._discard(decoding, _NOT_A_NUMBER)
        if sequence.first_token_at is None:
            sequence.first_token_at = time.perf_counter()
        if isinstance(outcome, Sampled):
            return self._take_token(decoding, outcome)
        return self._take_candidates(decoding, outcome)

    def _take_token(self, decoding: Decoding, sampled: Sampled) -> Update:
        sequence, token = decoding.sequence, sampled.token
        if token is None:
            raise TypeError("nothing was sampled")
        self._count()
        sequence.append(token)
        decoding.rows[0].tokens.append(token)
        if token in sequence.end_token_ids:
            sequence.transcript.feed_end(token)
            forced = decoding.constraints.ends_by_force(decoding.rows[0].tokens)
            return self._end(sequence, FinishReason.LENGTH if forced else FinishReason.STOP)
        if sequence.transcript.feed(token, sampled.logprobs):
            return self._end(sequence, FinishReason.STOP)
        if sequence.completion_length >= sequence.token_limit:
            return self._end(sequence, FinishReason.LENGTH)
        return Update(sequence, sequence.transcript.take())

    def _take_candidates(self, decoding: Decoding, candidates: list[Candidate]) -> Update | None:
        beams = decoding.beams
        if beams is None:
            raise TypeError("a request without beams got candidates")
        going_on = beams.advance(candidates, [row.tokens for row in decoding.rows])
        if beams.done:
            return self._deliver_best(decoding, beams.best)
        rows = [
            Hypothesis(
                [*decoding.rows[each.parent].tokens, each.token], list(decoding.rows[each.parent].blocks)
            )
            for each in going_on
        ]
        self._scheduler.replace_rows(decoding, rows)
        return None

    def _deliver_best(self, decoding: Decoding, tokens: list[int]) -> Update:
        """The end of a beam search: all of its text at once."""
        sequence = decoding.sequence
        for token in tokens[1:]:
            self._count()
            sequence.append(token)
            if token in sequence.end_token_ids:
                sequence.transcript.feed_end(token)
                if decoding.constraints.ends_by_force(tokens):
                    break
                return self._end(sequence, FinishReason.STOP)
            if sequence.transcript.feed(token, None):
                return self._end(sequence, FinishReason.STOP)
        return self._end(sequence, FinishReason.LENGTH)

    def _count(self) -> None:
        self._completion_tokens += 1
        self._rate.add(time.perf_counter(), 1)

    def _end(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> Update:
        decoding = self._scheduler.remove(sequence)
        if decoding is not None:
            sequence.device_seconds = decoding.device_ns / 1e9
        if reason in {FinishReason.STOP, FinishReason.LENGTH}:
            delta = sequence.transcript.finish()
        else:
            delta = sequence.transcript.take()
        return Update(sequence, delta, reason, sequence.usage(time.perf_counter()), error)

    def _fail(self, decodings: Seq[Decoding], busy_ns: int) -> list[Update]:
        """End the requests of a call that raised; the others never notice."""
        self._failed_steps += 1
        self._ledger.write_off(busy_ns)
        return [self._discard(each, _FAILED) for each in decodings]

    def _discard(self, decoding: Decoding, error: str) -> Update:
        """End a request whose blocks may hold rubbish, and see to it that nobody reads it."""
        blocks = {*decoding.source_blocks, *(block for row in decoding.rows for block in row.blocks)}
        if blocks:
            self._runner.clear(sorted(blocks))
        return self._end(decoding.sequence, FinishReason.ERROR, error)
