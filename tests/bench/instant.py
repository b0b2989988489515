"""A backend that answers at once, so that the figures are the gateway's alone."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from farebox.billing.models import ModelOffer
from farebox.gateway.models.answer_format import AnswerFormat
from farebox.gateway.models.errors import LoadError, RequestError
from farebox.gateway.models.generation import (
    Chunk,
    EngineStats,
    FinishReason,
    GenerationDefaults,
    GenerationRequest,
    Usage,
)
from farebox.gateway.models.grammar import Grammar, GrammarSpec

MODEL = "instant"
PROMPT_TOKENS = 20
WHOLE_TOKENS = 12


class InstantGeneration:
    """`max_tokens` tokens: each in a chunk of its own, or all in one for a small whole answer.

    One chunk a token is the worst case for the gateway: an engine merges what its reader has not
    taken yet.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._tokens = request.params.max_tokens or WHOLE_TOKENS

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        usage = Usage(PROMPT_TOKENS, 0, self._tokens, 0.0, 0.0, 0.0, 0.0, 0.0)
        if self._tokens <= WHOLE_TOKENS:
            yield Chunk(
                " fare" * self._tokens,
                tuple(range(self._tokens)),
                finish_reason=FinishReason.STOP,
                usage=usage,
            )
            return
        for token in range(self._tokens - 1):
            yield Chunk(" fare", (token,))
        yield Chunk(" fare", (self._tokens,), finish_reason=FinishReason.LENGTH, usage=usage)

    def tap(self, _: Callable[[Chunk], bool]) -> None:
        """It never waits: its chunks all go to who iterates."""

    def mark_served(self) -> None:
        """It computes nothing that others could reuse."""

    def cancel(self) -> None:
        """It has ended already."""


class InstantBackend:
    """Nothing to load, nothing to compute, a fixed number of prompt tokens."""

    context_length = 4096
    model_hash = hashlib.sha256(b"instant").hexdigest()
    defaults = GenerationDefaults()

    def __init__(self, _: ModelOffer) -> None:
        self._prompt = list(range(PROMPT_TOKENS))

    answer_format = AnswerFormat()
    continues_text = True
    chats = True

    def opens_reasoning(self, _: Sequence[int]) -> bool:
        return False

    def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[object] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> list[int]:
        return self._prompt

    def encode(self, _: str) -> list[int]:
        return self._prompt

    def spellings(self, _: str) -> list[tuple[int, ...]]:
        raise RequestError("This backend takes no bad words.", "bad_words")

    def compile_grammar(self, spec: GrammarSpec) -> Grammar:
        raise RequestError("This backend takes no grammar.", spec.param)

    def with_adapter(self, name: str, folder: str) -> "InstantBackend":
        raise LoadError(f"{name} has no weights to adapt.")

    def start(self) -> None:
        """Always ready."""

    def generate(self, request: GenerationRequest) -> InstantGeneration:
        return InstantGeneration(request)

    def stats(self) -> EngineStats:
        return EngineStats(0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0)

    async def close(self) -> None:
        """Nothing to release."""
