"""What the engine hands back: chunks of text, token counts, times."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"  # an end-of-sequence token, a stop token or a stop string
    LENGTH = "length"  # max_tokens or the context length
    EXHAUSTED = "content_filter"  # what the request forbids and its grammar together leave no token
    STUCK = "grammar_stuck"  # the grammar ran into its bounds or a dead end; the chunk's `error` says which
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class TokenAlternative:
    """A token that could have been chosen. `token` is its text, U+FFFD where it is half a character."""

    token_id: int
    token: str
    bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The chosen token's raw log-probability (natural logarithm) and the `top` alternatives, best first.

    `characters` is how many the token adds to the text: none where it ends within one, or is silent.
    """

    token_id: int
    token: str
    bytes: bytes
    logprob: float
    top: tuple[TokenAlternative, ...] = ()
    characters: int = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class RawLogprobs:
    """Of one sampled token: its log-probability and the most probable tokens with theirs, best first."""

    chosen: float
    top_ids: list[int]
    top: list[float]


@dataclass(frozen=True, slots=True)
class PromptDetails:
    """What a request asked to be told about its prompt.

    `text` without control tokens, with `echo`. `logprobs` has one entry per token, None
    for the first, which nothing precedes, with `prompt_logprobs`.
    """

    text: str | None = None
    logprobs: tuple[TokenLogprob | None, ...] | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a generation took. Times are seconds of the wall clock, except `device_seconds`.

    `cached_tokens` of the `prompt_tokens` came from the prefix cache, and had been served to somebody
    before: what nobody was served is found there, too, but not counted. `completion_tokens`
    counts every token generated for the answer, with the end token and those of a stop
    string. `queue_seconds` ends when the first step computes the request,
    `prefill_seconds` when its first token is there, `decode_seconds` when it ends.
    `device_seconds` is its share of the engine's busy time. `draft_tokens` were computed
    on the chance that they come next; the `accepted_draft_tokens` did, and are among the
    completion's. The time of the others is not in `device_seconds`. `reasoning_tokens` of the
    `completion_tokens` are reasoning (see `ReasoningCount`), for requests that have them counted.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    time_to_first_token_seconds: float | None
    device_seconds: float
    draft_tokens: int = 0
    accepted_draft_tokens: int = 0
    reasoning_tokens: int = 0


class Chunk(NamedTuple):
    """What became deliverable since the last chunk.

    `token_ids` are exactly the tokens whose text this chunk completes, so their number is
    what the client was handed. A token held back because it may begin a stop string, or
    because it holds half a character, comes with the chunk that settles it. After a
    normal end the counts add up to `usage.completion_tokens`; after a cancellation they
    may stay below. `logprobs` has one entry per token with text (not for an end token or
    the tokens of a stop string). `prompt` comes once, with the first token, to requests
    that ask for it. `usage` and `finish_reason` come on the last chunk.
    `cached_tokens`, on every chunk alike, is that of `Usage`.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    error: str | None = None
    cached_tokens: int = 0
    prompt: PromptDetails | None = None

    @property
    def delivered_tokens(self) -> int:
        """How many tokens the text of this chunk stands for."""
        return len(self.token_ids)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot of the engine. Counters run from the start; `tokens_per_second` is of the last seconds.

    `cached_tokens` of the `prompt_tokens` were found in the cache, served before or not.
    Of `busy_seconds`, `operator_seconds` were not charged to any request: work repeated
    after a preemption, failed, or thrown away. `discarded_tokens` were computed and then
    thrown away. Of the `draft_tokens` computed, `accepted_draft_tokens` proved right.
    `restarts` counts how often the engine replaced a thread that hung or broke. A `failed`
    engine has given up, and takes no more requests.
    """

    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    steps: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    preemptions: int
    failed_steps: int
    busy_seconds: float
    operator_seconds: float
    tokens_per_second: float
    discarded_tokens: int = 0
    draft_tokens: int = 0
    accepted_draft_tokens: int = 0
    restarts: int = 0
    failed: bool = False
