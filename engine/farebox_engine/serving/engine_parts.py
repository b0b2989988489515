"""What a family of models hands over to the engine that serves one of them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol

from farebox_engine.grammar.compiler import GrammarCompiler
from farebox_engine.lora.store import AdapterStore
from farebox_engine.models.sampling_defaults import GenerationDefaults
from farebox_engine.outputs import EngineStats
from farebox_engine.params import GenerationRequest
from farebox_engine.scheduling.sequence import Sequence, SequenceOutput
from farebox_engine.serving.core_protocol import Core
from farebox_engine.tokenization.answer_format import AnswerFormat


class GenerationCore(Core[Sequence, SequenceOutput], Protocol):
    """A core whose items are sequences."""

    def stats(self) -> EngineStats:
        """A snapshot; safe to take from another thread."""
        ...

    def note_served(self, sequence: Sequence) -> None:
        """Note, from any thread, that a sequence was served; it may have ended."""
        ...


class Intake(Protocol):
    """Checks requests against one model."""

    def sequence(self, request: GenerationRequest) -> Sequence:
        """Make a request ready to be scheduled.

        Raises:
            RequestError: it does not fit the model.
        """
        ...


class PromptTokenizer(Protocol):
    """From texts and chats to prompts; see `ChatTokenizer`."""

    @property
    def answer_format(self) -> AnswerFormat: ...

    @property
    def has_chat_template(self) -> bool: ...

    def encode(self, text: str) -> list[int]: ...

    def spellings(self, word: str) -> list[tuple[int, ...]]: ...

    def opens_reasoning(self, prompt: Seq[int]) -> bool: ...

    def render_chat(
        self,
        messages: Seq[Mapping[str, object]],
        *,
        add_generation_prompt: bool = True,
        tools: Seq[object] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class EngineParts:
    """The parts of one engine. `grammars` and `adapters` are None where the family has no such thing.

    `context_length` is in tokens: those that prompt and answer may have together. `block_bytes` is what
    one block of the cache takes.
    """

    core: GenerationCore
    intake: Intake
    tokenizer: PromptTokenizer
    context_length: int
    block_bytes: int
    model_hash: str
    defaults: GenerationDefaults
    grammars: GrammarCompiler | None = None
    adapters: AdapterStore | None = None
