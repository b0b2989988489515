"""What becomes of a step's results: who is charged, which tokens count, and what the readers get."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Seq

from farebox_engine.decoders.accounting import DecoderAccounting
from farebox_engine.execution.runner import StepResult
from farebox_engine.grammar.matcher import Matcher
from farebox_engine.outputs import Chunk, FinishReason, PromptDetails
from farebox_engine.sampling.sampler import Sampled
from farebox_engine.scheduling.scheduler import Scheduler
from farebox_engine.scheduling.sequence import CUT_SHORT, Sequence, SequenceOutput, Span
from farebox_engine.serving.attempts import FAILED, NOT_A_NUMBER
from farebox_engine.serving.token_rate import TokenRate

_log = logging.getLogger(__name__)

_BROKEN_PARSER = "The grammar's parser broke in mid-answer."

# A span whose blocks cannot be trusted, and the error its sequence ends with; None if it is computed again.
BrokenSpan = tuple[Span, str | None]


class DecoderOutputProcessor:
    """Charges for a step, appends the sampled tokens to their sequences, and ends those that are done.

    The outputs are kept until collected, so that none is lost when a step ends half-way.
    """

    def __init__(self, scheduler: Scheduler, accounting: DecoderAccounting) -> None:
        self.rate = TokenRate()
        self.completion_tokens = 0
        self.draft_tokens = 0
        self.accepted_draft_tokens = 0
        self._scheduler = scheduler
        self._accounting = accounting
        self._outputs: list[SequenceOutput] = []

    def process(self, result: StepResult) -> list[BrokenSpan]:
        """Charge for and hand out what was computed; returns what did not come out right."""
        after_drafts = result.after_drafts
        unusable = {
            span.sequence: span.length
            for span, sampled in result.sampled
            if any(map(_is_unusable, (sampled, *after_drafts.get(span.sequence, ()))))
        }
        open_shares = self._accounting.charge([span for span, _ in result.sampled], result.busy_ns, unusable)
        broken: list[BrokenSpan] = []
        for span, sampled in result.sampled:
            sequence = span.sequence
            sequence.draft_tokens += len(span.drafts)
            self.draft_tokens += len(span.drafts)
            if sequence in unusable:
                # After a draft it may be the draft's fault.
                broken.append((span, None if sampled and sampled.token is not None else NOT_A_NUMBER))
                continue
            try:
                sequence.prompt_scores += result.prompt_scores.get(sequence, ())
                if span.drafts:
                    self._verify(span, sampled, after_drafts.get(sequence, ()), open_shares.get(sequence, 0))
                else:
                    self._advance(span, sampled)
            except Exception:
                _log.exception("engine.sequence_failed")
                broken.append((span, FAILED))
        return broken

    def end(self, sequence: Sequence, reason: FinishReason, error: str | None = None) -> None:
        """End a sequence, running or waiting."""
        sequence.served |= reason not in CUT_SHORT and not sequence.request.tells_when_served
        self._scheduler.remove(sequence)
        # Whoever still reads the answer must not keep an unloaded adapter in memory.
        sequence.adapter = None
        self._outputs.append(SequenceOutput(sequence, sequence.last_chunk(reason, error)))

    def collect(self) -> list[SequenceOutput]:
        """What there is for the sequences since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def _verify(self, span: Span, sampled: Sampled | None, after_drafts: Seq[Sampled], draft_ns: int) -> None:
        """Accept the span's drafts for as long as they are what was sampled.

        Each accepted draft is to the sequence what a step of its own would have been.
        """
        sequence, accepted = span.sequence, 0
        try:
            self._advance(span.without_drafts, sampled)
            for draft, after in zip(span.drafts, after_drafts, strict=True):
                if sequence not in self._scheduler or sequence.tokens[-1] != draft:
                    break
                accepted += 1
                sequence.accepted_draft_tokens += 1
                self._accounting.accept(sequence, draft_ns)
                self._advance(Span(sequence, sequence.computed, 1), after)
        finally:
            self.accepted_draft_tokens += accepted
            self._accounting.refuse(len(span.drafts) - accepted, draft_ns)
        if sequence.drafter is not None:
            sequence.drafter.learn(len(span.drafts), accepted)
            self._scheduler.trim(sequence)

    def _advance(self, span: Span, sampled: Sampled | None) -> None:
        """Record a computed span, and the token it yields if it reaches the sequence's end."""
        self._scheduler.commit(span)
        if sampled is None or _is_unusable(sampled):
            return
        sequence = span.sequence
        if not sequence.completion_length and sequence.request.params.describes_prompt:
            self._outputs.append(
                SequenceOutput(sequence, Chunk("", (), (), prompt=_describe_prompt(sequence)))
            )
        if not sequence.token_limit:
            self.end(sequence, FinishReason.LENGTH)
        elif sequence.matcher is not None and sequence.matcher.failed:
            # What was sampled under a mask that could not be computed is not the model's word.
            self._end_of_grammar(sequence, sequence.matcher)
        elif sampled.token is None:
            self.end(sequence, FinishReason.EXHAUSTED)
        else:
            self._append(sequence, sampled.token, sampled)

    def _append(self, sequence: Sequence, token: int, sampled: Sampled) -> None:
        now = time.perf_counter()
        if sequence.first_token_at is None:
            sequence.first_token_at = now
        self.rate.add(now, 1)
        self.completion_tokens += 1
        self._scheduler.charge_output(sequence)
        sequence.append(token)
        if token in sequence.end_token_ids:
            sequence.transcript.feed_end(token)
            self.end(sequence, FinishReason.STOP)
        elif sequence.transcript.feed(token, sampled.logprobs, may_stop=sequence.may_stop):
            self.end(sequence, FinishReason.STOP)
        elif sequence.matcher is not None and sequence.matcher.ended:
            self._end_of_grammar(sequence, sequence.matcher)
        elif sequence.completion_length >= sequence.token_limit:
            self.end(sequence, FinishReason.LENGTH)
        else:
            self._outputs.append(SequenceOutput(sequence, sequence.transcript.take()))

    def _end_of_grammar(self, sequence: Sequence, matcher: Matcher) -> None:
        if not matcher.failed:
            self.end(sequence, FinishReason.STOP)
        elif (obstacle := matcher.obstacle) is not None:
            self.end(sequence, FinishReason.STUCK, obstacle)
        else:
            self.end(sequence, FinishReason.ERROR, _BROKEN_PARSER)


def _is_unusable(sampled: Sampled | None) -> bool:
    """Whether the model gave something that is no number."""
    return sampled is not None and sampled.token is None and not sampled.exhausted


def _describe_prompt(sequence: Sequence) -> PromptDetails:
    params = sequence.request.params
    scores = None if params.prompt_logprobs is None else sequence.prompt_scores
    return sequence.transcript.describe_prompt(sequence.request.prompt_token_ids, scores, echo=params.echo)
