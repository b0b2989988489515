"""One request on its way through the engine."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import NamedTuple

from farebox_engine.grammar.matcher import Matcher
from farebox_engine.lora.adapter import Adapter
from farebox_engine.outputs import Chunk, FinishReason, RawLogprobs, Usage
from farebox_engine.params import GenerationRequest
from farebox_engine.sampling.bad_words import BadWords
from farebox_engine.sampling.penalties import TokenCounts
from farebox_engine.scheduling.drafter import Drafter
from farebox_engine.tokenization.transcript import Transcript

CUT_SHORT = {FinishReason.CANCELLED, FinishReason.ERROR, FinishReason.STUCK}


@dataclass(slots=True, eq=False)
class Sequence:
    """A request, its tokens so far, the KV blocks it holds and what it has cost.

    `tokens` is the prompt followed by what was generated; the keys and values of the
    first `computed` of them are in the cache. `block_keys` are the prefix-cache keys of
    its full blocks, as far as they are known, after `root_key`. `furthest` is the highest
    `computed` ever was: below it, after a preemption, work is done a second time.
    `rotated_for` is the length by which its keys are rotated once that is no longer the
    prompt's, for models that look at it.
    `prompt_scores` are those of the prompt's tokens from the second on, if asked for.
    `adapter` is let go of when the sequence ends.
    `admitted` tells whether it ever ran, and its prompt was charged. `reused_tokens` it found in
    the cache then; the first `cached_tokens` of them had been served to somebody. It is `served` itself
    once its reader has something of it, or it has ended well; of its first `served_blocks`
    blocks the pool knows that.
    `drafter` proposes its next tokens, once there is any speculation; of the
    `draft_tokens` computed, `accepted_draft_tokens` proved right.
    `device_ns` is its share of the device's busy time so far, in nanoseconds.
    Times are `time.perf_counter` readings in seconds.
    """

    request: GenerationRequest
    transcript: Transcript
    token_limit: int
    end_token_ids: frozenset[int]
    root_key: bytes
    submitted_at: float
    adapter: Adapter | None = None
    tokens: list[int] = field(init=False)
    prompt_length: int = field(init=False)
    counts: TokenCounts | None = field(init=False, default=None)
    matcher: Matcher | None = field(init=False, default=None)
    bad_words: BadWords | None = field(init=False, default=None)
    computed: int = 0
    furthest: int = 0
    rotated_for: int = 0
    blocks: list[int] = field(default_factory=list)
    block_keys: list[bytes] = field(default_factory=list)
    prompt_scores: list[RawLogprobs] = field(default_factory=list)
    drafter: Drafter | None = None
    draft_tokens: int = 0
    accepted_draft_tokens: int = 0
    reused_tokens: int = 0
    cached_tokens: int = 0
    served: bool = False
    served_blocks: int = 0
    admitted: bool = False
    device_ns: int = 0
    scheduled_at: float | None = None
    first_token_at: float | None = None

    def __post_init__(self) -> None:
        self.tokens = list(self.request.prompt_token_ids)
        self.prompt_length = len(self.tokens)
        if self.request.grammar is not None:
            self.matcher = self.request.grammar.start()
        if self.request.params.penalised:
            self.counts = TokenCounts(self.tokens)
        if self.request.params.bad_words:
            self.bad_words = BadWords(self.request.params.bad_words)

    @property
    def pending(self) -> int:
        """Tokens whose keys and values are still to be computed; 1 while decoding."""
        return len(self.tokens) - self.computed

    @property
    def reusable(self) -> int:
        """How many of the first tokens need not be computed if the cache has their keys and values."""
        # At least one token is left to compute: its hidden state yields the next one.
        most = len(self.tokens) - 1
        if self.request.params.prompt_logprobs is None or len(self.prompt_scores) == self.prompt_length - 1:
            return most
        # A position that is not computed gives the token after it no score.
        return min(most, len(self.prompt_scores))

    @property
    def completion_length(self) -> int:
        return len(self.tokens) - self.prompt_length

    @property
    def may_stop(self) -> bool:
        """Whether the completion is long enough to end by a stop string."""
        return self.completion_length >= self.request.params.min_tokens

    @property
    def can_speculate(self) -> bool:
        """Whether its next token can be sampled before the one before it is appended."""
        return self.matcher is None and self.counts is None

    @property
    def last_token(self) -> int:
        return self.tokens[-1]

    def ends_with(self, tokens: list[int]) -> bool:
        return self.tokens[len(self.tokens) - len(tokens) :] == tokens

    def append(self, token: int) -> None:
        """Add a generated token."""
        self.tokens.append(token)
        if self.matcher is not None:
            self.matcher.accept(token)
        if self.counts is not None:
            self.counts.add(token)

    def last_chunk(self, reason: FinishReason, error: str | None = None) -> Chunk:
        """The end of the answer, with its usage; after a normal end, all that was held back."""
        normal = reason not in CUT_SHORT
        chunk = self.transcript.finish() if normal else self.transcript.take()
        return chunk._replace(finish_reason=reason, usage=self.usage(time.perf_counter()), error=error)

    def usage(self, now: float) -> Usage:
        """What the request has taken up to `now`."""
        scheduled = now if self.scheduled_at is None else self.scheduled_at
        first_token = now if self.first_token_at is None else self.first_token_at
        return Usage(
            prompt_tokens=self.prompt_length,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_length,
            queue_seconds=scheduled - self.submitted_at,
            prefill_seconds=first_token - scheduled,
            decode_seconds=now - first_token,
            time_to_first_token_seconds=(
                None if self.first_token_at is None else self.first_token_at - self.submitted_at
            ),
            device_seconds=self.device_ns / 1e9,
            draft_tokens=self.draft_tokens,
            accepted_draft_tokens=self.accepted_draft_tokens,
            reasoning_tokens=self.transcript.reasoning_tokens,
        )


@dataclass(frozen=True, slots=True)
class DraftedSequence:
    """A sequence as the sampler will meet it if its next tokens are `drafts`; implements `Row`."""

    sequence: Sequence
    drafts: tuple[int, ...]

    @property
    def request(self) -> GenerationRequest:
        return self.sequence.request

    @property
    def end_token_ids(self) -> frozenset[int]:
        return self.sequence.end_token_ids

    @property
    def completion_length(self) -> int:
        return self.sequence.completion_length + len(self.drafts)

    @property
    def counts(self) -> TokenCounts | None:
        return self.sequence.counts

    @property
    def matcher(self) -> Matcher | None:
        return self.sequence.matcher

    @property
    def bad_words(self) -> BadWords | None:
        return self.sequence.bad_words

    @property
    def last_token(self) -> int:
        return self.drafts[-1]

    def ends_with(self, tokens: list[int]) -> bool:
        within = len(self.drafts) - len(tokens)
        if within >= 0:
            return tokens == list(self.drafts[within:])
        return tokens[-within:] == list(self.drafts) and self.sequence.ends_with(tokens[:-within])


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens of a sequence that one step computes: `length` of them from position `start`.

    The last of them may be `drafts`, which go on from the sequence's end and are to be verified.
    """

    sequence: Sequence
    start: int
    length: int
    drafts: tuple[int, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + self.length

    @property
    def samples(self) -> bool:
        """Whether the span reaches the sequence's end, so that the step yields its next token."""
        return self.stop - len(self.drafts) == len(self.sequence.tokens)

    @property
    def tokens(self) -> list[int]:
        return [*self.sequence.tokens[self.start : self.stop], *self.drafts]

    @property
    def without_drafts(self) -> Span:
        """The span without its drafts."""
        return Span(self.sequence, self.start, self.length - len(self.drafts))

    @property
    def sampled_for(self) -> list[Sequence | DraftedSequence]:
        """The sequence as it is, after the first draft, the first two, and so on."""
        drafted = [
            DraftedSequence(self.sequence, self.drafts[: count + 1]) for count in range(len(self.drafts))
        ]
        return [self.sequence, *drafted]


class SequenceOutput(NamedTuple):
    """What a step yields for one sequence, on its way to the sequence's `Generation`."""

    sequence: Sequence
    chunk: Chunk
