"""The seam between the gateway and whatever runs a model that writes text.

What it raises is in `gateway.models.errors`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from farebox.gateway.models.answer_format import AnswerFormat
from farebox.gateway.models.generation import EngineStats, Generation, GenerationDefaults, GenerationRequest
from farebox.gateway.models.grammar import Grammar, GrammarSpec


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

    @property
    def continues_text(self) -> bool:
        """Whether an answer goes on from the prompt; else it is a text of its own, such as a translation."""
        ...

    @property
    def chats(self) -> bool:
        """Whether the model has a chat template: without one it only continues texts."""
        ...

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        """Whether an answer to `prompt` begins within reasoning."""
        ...

    def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[object] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> list[int]:
        """The prompt of a conversation; `variables` are for the template, such as `enable_thinking`.
        Control tokens come from the template alone, never from content.

        Raises TemplateError when the model's template refuses the messages.
        """
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text. What looks like a control token is text."""
        ...

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """The sequences of tokens by which the model would write a word, as `bad_words` takes them.

        Raises RequestError for a word that cannot be kept out.
        """
        ...

    def compile_grammar(self, spec: GrammarSpec) -> Grammar:
        """What an answer must obey; blocks for milliseconds.

        Raises RequestError when it cannot be enforced.
        """
        ...

    def with_adapter(self, name: str, folder: str) -> "InferenceBackend":
        """The same model with an adapter on it, which begins and ends with this one; blocks while it loads.

        Raises LoadError when the adapter does not fit.
        """
        ...

    def start(self) -> None:
        """Begin to serve, on the running event loop."""
        ...

    def generate(self, request: GenerationRequest) -> Generation:
        """Queue a request; to be called on the event loop. Raises RequestError and ClosedError."""
        ...

    def stats(self) -> EngineStats: ...

    async def close(self) -> None:
        """Cancel what runs and release the device."""
        ...
