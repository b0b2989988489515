"""The seam between the gateway and whatever runs a model: the only door to an engine."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from farebox_engine.grammar.compiler import Grammar, GrammarSpec
from farebox_engine.models.sampling_defaults import GenerationDefaults
from farebox_engine.outputs import Chunk, EngineStats
from farebox_engine.params import GenerationRequest, SamplingParams
from farebox_engine.tokenization.answer_format import AnswerFormat

__all__ = [
    "Chunk",
    "EngineStats",
    "Generation",
    "GenerationDefaults",
    "GenerationRequest",
    "InferenceBackend",
    "SamplingParams",
]


class Generation(Protocol):
    """One answer under way: iterate it for its chunks. The last one has `finish_reason` and `usage`.

    A chunk holds all that became deliverable since the one before was taken: a consumer that is slow
    gets fewer and larger ones.
    """

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    def tap(self, take: Callable[[Chunk], bool]) -> None:
        """Allow chunks to be handed to `take` at once, while the iterating task waits for the next.

        It returns False for what that task is to be given instead; it never raises. The last chunk is
        for the task in any case.
        """
        ...

    def cancel(self) -> None:
        """End it at the next step. The iteration still ends with a last chunk, reason `cancelled`."""
        ...


class InferenceBackend(Protocol):
    """A loaded model. `render_chat` and `encode` block (call them in a thread when the text is long)."""

    @property
    def context_length(self) -> int:
        """Tokens that prompt and answer may have together."""
        ...

    @property
    def model_hash(self) -> str:
        """SHA-256 of the weights, in hex."""
        ...

    @property
    def defaults(self) -> GenerationDefaults:
        """What the model's author would have where a request names no value."""
        ...

    @property
    def answer_format(self) -> AnswerFormat:
        """How the model marks reasoning and calls of tools."""
        ...

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        """Whether an answer to `prompt` begins within reasoning."""
        ...

    def render_chat(
        self, messages: Sequence[Mapping[str, object]], tools: Sequence[object] | None = None
    ) -> list[int]:
        """The prompt of a conversation. Control tokens come from the template alone, never from content.

        Raises farebox_engine.errors.TemplateError when the model's template refuses the messages.
        """
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text. What looks like a control token is text."""
        ...

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """The sequences of tokens by which the model would write a word, as `bad_words` takes them.

        Raises farebox_engine.errors.RequestError for a word that cannot be kept out.
        """
        ...

    def compile_grammar(self, spec: GrammarSpec) -> Grammar:
        """What an answer must obey; blocks for milliseconds.

        Raises farebox_engine.errors.RequestError when it cannot be enforced.
        """
        ...

    def with_adapter(self, name: str, folder: str) -> "InferenceBackend":
        """The same model with an adapter on it, which begins and ends with this one; blocks while it loads.

        Raises farebox_engine.errors.LoadError when the adapter does not fit.
        """
        ...

    def start(self) -> None:
        """Begin to serve, on the running event loop."""
        ...

    def generate(self, request: GenerationRequest) -> Generation:
        """Queue a request; to be called on the event loop. Raises EngineError."""
        ...

    def stats(self) -> EngineStats: ...

    async def close(self) -> None:
        """Cancel what runs and release the device."""
        ...
