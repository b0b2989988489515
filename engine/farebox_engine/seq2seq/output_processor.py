"""What becomes of a decoding step's results: which tokens count, and what the readers get."""

from __future__ import annotations

import logging
import time

from farebox_engine.outputs import FinishReason
from farebox_engine.sampling.sampler import Sampled
from farebox_engine.scheduling.sequence import Sequence, SequenceOutput
from farebox_engine.seq2seq.beam import Candidate
from farebox_engine.seq2seq.decoding import Decoding, Hypothesis
from farebox_engine.seq2seq.runner import NextTokens
from farebox_engine.seq2seq.scheduler import Seq2SeqScheduler
from farebox_engine.serving.attempts import FAILED, NOT_A_NUMBER
from farebox_engine.serving.token_rate import TokenRate

_log = logging.getLogger(__name__)


class Seq2SeqOutputProcessor:
    """Appends sampled tokens, goes on with the best beams, and ends the requests that are done.

    The outputs are kept until collected, so that none is lost when a step ends half-way.
    """

    def __init__(self, scheduler: Seq2SeqScheduler) -> None:
        self.rate = TokenRate()
        self.completion_tokens = 0
        self._scheduler = scheduler
        self._outputs: list[SequenceOutput] = []

    def process(self, decoding: Decoding, found: NextTokens) -> str | None:
        """Commit what a step computed for one request; returns what was wrong with it."""
        sequence, lagged = decoding.sequence, decoding.lags
        if found is None or (isinstance(found, Sampled) and found.token is None):
            return NOT_A_NUMBER
        self._scheduler.commit(decoding)
        if lagged:
            return None
        if sequence.first_token_at is None:
            sequence.first_token_at = time.perf_counter()
        try:
            if isinstance(found, Sampled):
                self._append(decoding, found)
            else:
                self._advance(decoding, found)
        except Exception:
            _log.exception("engine.sequence_failed")
            return FAILED
        return None

    def end(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> None:
        """End a sequence, running or waiting."""
        self._scheduler.remove(sequence)
        self._outputs.append(SequenceOutput(sequence, sequence.last_chunk(reason, error)))

    def collect(self) -> list[SequenceOutput]:
        """What there is for the sequences since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def _append(self, decoding: Decoding, sampled: Sampled) -> None:
        sequence, token = decoding.sequence, sampled.token
        if token is None:
            raise TypeError("nothing was sampled")
        self._count()
        sequence.append(token)
        decoding.rows[0].tokens.append(token)
        if token in sequence.end_token_ids:
            sequence.transcript.feed_end(token)
            forced = decoding.constraints.ends_by_force(decoding.rows[0].tokens)
            self.end(sequence, FinishReason.LENGTH if forced else FinishReason.STOP)
        elif sequence.transcript.feed(token, sampled.logprobs):
            self.end(sequence, FinishReason.STOP)
        elif sequence.completion_length >= sequence.token_limit:
            self.end(sequence, FinishReason.LENGTH)
        else:
            self._outputs.append(SequenceOutput(sequence, sequence.transcript.take()))

    def _advance(self, decoding: Decoding, candidates: list[Candidate]) -> None:
        """Go on with the best of a beam search's candidates, or end it."""
        beams = decoding.beams
        if beams is None:
            raise TypeError("a request without beams got candidates")
        going_on = beams.advance(candidates, [row.tokens for row in decoding.rows])
        if beams.done:
            self._end_search(decoding, beams.best)
            return
        rows = [
            Hypothesis(
                [*decoding.rows[each.parent].tokens, each.token], list(decoding.rows[each.parent].blocks)
            )
            for each in going_on
        ]
        self._scheduler.replace_rows(decoding, rows)

    def _end_search(self, decoding: Decoding, tokens: list[int]) -> None:
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
        self.end(sequence, reason)

    def _count(self) -> None:
        self.completion_tokens += 1
        self.rate.add(time.perf_counter(), 1)
