"""Log-probabilities in the two shapes of OpenAI's API."""

from collections.abc import Iterable
from typing import TypeAlias

from msgspec import Raw

from farebox.gateway.completions import responses
from farebox.gateway.completions.responses import ChoiceLogprobs, LegacyLogprobs, TopLogprob
from farebox.gateway.completions.writers.events import encode
from farebox.gateway.models.generation import PromptDetails, TokenLogprob

# A prompt's first token has its text alone, since nothing precedes it.
ScoredToken: TypeAlias = TokenLogprob | str


def scored_prompt(prompt: PromptDetails) -> list[ScoredToken]:
    """The prompt's tokens, where they were asked for."""
    if prompt.logprobs is None:
        return []
    rest = [token for token in prompt.logprobs if token is not None]
    text = prompt.text or ""
    return [text[: len(text) - sum(token.characters for token in rest)], *rest]


def chat_logprobs(tokens: Iterable[ScoredToken]) -> ChoiceLogprobs:
    """As chat completions have them: one object for each token."""
    return ChoiceLogprobs([_scored(token) for token in tokens if not isinstance(token, str)])


def written_chat_logprobs(tokens: Iterable[ScoredToken]) -> Raw:
    """The same as JSON, token by token: one call that writes megabytes keeps the interpreter to itself."""
    pieces = [encode(_scored(token)) for token in tokens if not isinstance(token, str)]
    head, tail = encode(ChoiceLogprobs([])).split(b"[]")
    return Raw(b"".join((head, b"[", b",".join(pieces), b"]", tail)))


def _scored(token: TokenLogprob) -> responses.TokenLogprob:
    return responses.TokenLogprob(
        token.token,
        token.logprob,
        list(token.bytes),
        [TopLogprob(other.token, other.logprob, list(other.bytes)) for other in token.top],
    )


def legacy_logprobs(tokens: Iterable[ScoredToken], offset: int) -> LegacyLogprobs:
    """As completions have them: parallel lists. `offset` counts the characters before the first token."""
    found = LegacyLogprobs([], [], [], [])
    for token in tokens:
        text = token if isinstance(token, str) else token.token
        found.tokens.append(text)
        found.text_offset.append(offset)
        found.token_logprobs.append(None if isinstance(token, str) else token.logprob)
        found.top_logprobs.append(None if isinstance(token, str) else _by_text(token))
        offset += len(text) if isinstance(token, str) else token.characters
    return found


def _by_text(token: TokenLogprob) -> dict[str, float]:
    """The alternatives by their texts; of several with one text, such as parts of characters, the best."""
    return {other.token: other.logprob for other in reversed(token.top)}
