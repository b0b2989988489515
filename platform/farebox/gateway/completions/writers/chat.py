"""How the answer to `POST /v1/chat/completions` is written."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from farebox.gateway.completions.responses import (
    AssistantAnswer,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceDelta,
    ChoiceLogprobs,
    ChunkChoice,
    CompletionUsage,
    FinishReason,
)
from farebox.gateway.completions.writers.choices import ChoiceBuffer
from farebox.gateway.completions.writers.events import (
    EventTemplate,
    encode,
    event,
    plain_text_event,
    template_of,
)
from farebox.gateway.completions.writers.logprobs import chat_logprobs, written_chat_logprobs
from farebox.gateway.completions.writers.readings import Reading, read_answer
from farebox.gateway.completions.writers.writer import AnswerHead
from farebox.gateway.models.generation import Chunk

_OPENING = ChoiceDelta(content="", role="assistant", refusal=None)
_CLOSING = ChoiceDelta()


class ChatWriter:
    """`POST /v1/chat/completions`."""

    id_prefix: ClassVar[str] = "chatcmpl-"

    def __init__(self, head: AnswerHead) -> None:
        self._head = head
        self._usage = None if head.include_usage else UNSET
        self._opened: set[int] = set()
        self._templates: dict[int, EventTemplate] = {}
        self._readings: dict[int, Reading] = {}
        self._ended = 0
        self._held_back: ChunkChoice | None = None

    def events(self, index: int, chunk: Chunk) -> bytes:
        plain = self.plain_event(index, chunk)
        if plain is not None:
            return plain
        choices = []
        if index not in self._opened:
            self._opened.add(index)
            choices.append(ChunkChoice(index, _OPENING))
            if self._head.new_parser is None:
                bare = self._chunk([ChunkChoice(index, ChoiceDelta(content=""))])
                self._templates[index] = template_of(bare, b'"content":""')
        deltas = self._deltas(index, chunk)
        if chunk.logprobs:
            first = deltas.pop(0) if deltas else ChoiceDelta(content="")
            choices.append(ChunkChoice(index, first, chat_logprobs(chunk.logprobs)))
        choices += [ChunkChoice(index, delta) for delta in deltas]
        if chunk.finish_reason is not None:
            self._ended += 1
            reason = self._reason(index, chunk.finish_reason.value)
            closing = ChunkChoice(index, _CLOSING, None, reason)
            if self._head.closes_with_receipt and self._ended == self._head.choices:
                self._held_back = closing
            else:
                choices.append(closing)
        return b"".join([event(self._chunk([choice])) for choice in choices])

    def plain_event(self, index: int, chunk: Chunk) -> bytes | None:
        return plain_text_event(self._templates.get(index), chunk)

    def closing_events(self, usage: CompletionUsage, receipt: str | None) -> bytes:
        told: str | UnsetType = receipt or UNSET
        if self._head.include_usage:
            return event(msgspec.structs.replace(self._chunk([]), usage=usage, receipt=told))
        if self._held_back is None:
            return b""
        return event(msgspec.structs.replace(self._chunk([self._held_back]), receipt=told))

    def document(self, choices: Sequence[ChoiceBuffer], usage: CompletionUsage) -> bytes:
        head = self._head
        return encode(
            ChatCompletion(
                id=head.id,
                created=head.created,
                model=head.model,
                choices=[self._choice(index, choice) for index, choice in enumerate(choices)],
                usage=usage,
                system_fingerprint=head.fingerprint,
            )
        )

    def _deltas(self, index: int, chunk: Chunk) -> list[ChoiceDelta]:
        if self._head.new_parser is None:
            return [ChoiceDelta(content=chunk.text)] if chunk.text else []
        reading = self._readings.get(index)
        if reading is None:
            reading = self._readings[index] = Reading(self._head.new_parser())
        return reading.deltas(chunk.text, chunk.finish_reason)

    def _reason(self, index: int, reason: str) -> FinishReason:
        called = index in self._readings and self._readings[index].calls
        return "tool_calls" if called and reason == "stop" else reason  # type: ignore[return-value]

    def _choice(self, index: int, choice: ChoiceBuffer) -> ChatChoice:
        logprobs: ChoiceLogprobs | None = None
        if self._head.with_logprobs:
            logprobs = written_chat_logprobs(choice.logprobs)  # type: ignore[assignment]  # the same, as JSON
        text = "".join(choice.texts)
        reason: FinishReason = choice.finish_reason  # type: ignore[assignment]
        if self._head.new_parser is None:
            return ChatChoice(index, AssistantAnswer(text), logprobs, reason)
        answer = read_answer(self._head.new_parser(), text, reason)
        if answer.tool_calls and reason == "stop":
            reason = "tool_calls"
        return ChatChoice(index, answer, logprobs, reason)

    def _chunk(self, choices: list[ChunkChoice]) -> ChatCompletionChunk:
        head = self._head
        return ChatCompletionChunk(head.id, head.created, head.model, choices, head.fingerprint, self._usage)
