"""How an answer looks on the wire: one writer per endpoint, whole or as server-sent events."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import msgspec
from msgspec import UNSET

from farebox.gateway.completions.readings import Reading, read_answer
from farebox.gateway.completions.responses import (
    AssistantAnswer,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceDelta,
    ChoiceLogprobs,
    ChunkChoice,
    Completion,
    CompletionChoice,
    CompletionUsage,
    FinishReason,
    LegacyLogprobs,
    TokenLogprob,
    TopLogprob,
)
from farebox_engine.outputs import Chunk, PromptDetails
from farebox_engine.outputs import TokenLogprob as RawLogprob
from farebox_engine.tokenization.answer_format import AnswerParser

DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode
_OPENING = ChoiceDelta(content="", role="assistant", refusal=None)
_CLOSING = ChoiceDelta()

Event: TypeAlias = ChatCompletionChunk | Completion
# An event's bytes before and after a text; most events of a stream differ in nothing else.
Frame: TypeAlias = tuple[bytes, bytes]


@dataclass(slots=True)
class Gathered:
    """The chunks of one choice, put together."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[RawLogprob | str] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, chunk: Chunk) -> None:
        if chunk.prompt is not None:
            self.texts.append(chunk.prompt.text or "")
            self.logprobs.extend(_scored(chunk.prompt))
        self.texts.append(chunk.text)
        if chunk.logprobs:
            self.logprobs.extend(chunk.logprobs)
        if chunk.finish_reason is not None:
            self.finish_reason = chunk.finish_reason.value


class Writer(Protocol):
    """Turns what the engine says into bytes."""

    def events(self, index: int, chunk: Chunk) -> bytes:
        """The server-sent events of a chunk of choice `index`; empty if there is nothing to show yet."""
        ...

    def plain_event(self, index: int, chunk: Chunk) -> bytes | None:
        """What `events` gives for a chunk of nothing but text, which is all text; None for any other.

        Costs little, and does not raise.
        """
        ...

    def usage_event(self, usage: CompletionUsage) -> bytes:
        """The event after the last choice's end, if usage was asked for; else empty."""
        ...

    def document(self, choices: Sequence[Gathered], usage: CompletionUsage) -> bytes:
        """The whole answer as one JSON document."""
        ...


@dataclass(slots=True)
class Heading:
    """What every event of an answer repeats. `created` is in Unix seconds.

    `new_parser` makes what tells reasoning and calls of tools from content, where there may be any.
    """

    id: str
    created: int
    model: str
    fingerprint: str
    include_usage: bool
    with_logprobs: bool
    new_parser: Callable[[], AnswerParser] | None = None


class ChatWriter:
    """`POST /v1/chat/completions`."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._usage = None if heading.include_usage else UNSET
        self._opened: set[int] = set()
        self._frames: dict[int, Frame] = {}
        self._readings: dict[int, Reading] = {}

    def events(self, index: int, chunk: Chunk) -> bytes:
        plain = self.plain_event(index, chunk)
        if plain is not None:
            return plain
        choices = []
        if index not in self._opened:
            self._opened.add(index)
            choices.append(ChunkChoice(index, _OPENING))
            if self._heading.new_parser is None:
                bare = self._chunk([ChunkChoice(index, ChoiceDelta(content=""))])
                self._frames[index] = _frame(bare, b'"content":""')
        deltas = self._deltas(index, chunk)
        if chunk.logprobs:
            first = deltas.pop(0) if deltas else ChoiceDelta(content="")
            choices.append(ChunkChoice(index, first, _chat_logprobs(chunk.logprobs)))
        choices += [ChunkChoice(index, delta) for delta in deltas]
        if chunk.finish_reason is not None:
            reason = self._reason(index, chunk.finish_reason.value)
            choices.append(ChunkChoice(index, _CLOSING, None, reason))
        return b"".join([_event(self._chunk([choice])) for choice in choices])

    def plain_event(self, index: int, chunk: Chunk) -> bytes | None:
        return _plain(self._frames.get(index), chunk)

    def usage_event(self, usage: CompletionUsage) -> bytes:
        if not self._heading.include_usage:
            return b""
        chunk = self._chunk([])
        return _event(msgspec.structs.replace(chunk, usage=usage))

    def document(self, choices: Sequence[Gathered], usage: CompletionUsage) -> bytes:
        heading = self._heading
        return _encode(
            ChatCompletion(
                id=heading.id,
                created=heading.created,
                model=heading.model,
                choices=[self._choice(index, choice) for index, choice in enumerate(choices)],
                usage=usage,
                system_fingerprint=heading.fingerprint,
            )
        )

    def _deltas(self, index: int, chunk: Chunk) -> list[ChoiceDelta]:
        if self._heading.new_parser is None:
            return [ChoiceDelta(content=chunk.text)] if chunk.text else []
        reading = self._readings.get(index)
        if reading is None:
            reading = self._readings[index] = Reading(self._heading.new_parser())
        return reading.deltas(chunk.text, at_end=chunk.finish_reason is not None)

    def _reason(self, index: int, reason: str) -> FinishReason:
        called = index in self._readings and self._readings[index].calls
        return "tool_calls" if called and reason == "stop" else reason  # type: ignore[return-value]

    def _choice(self, index: int, choice: Gathered) -> ChatChoice:
        logprobs = _chat_logprobs(choice.logprobs) if self._heading.with_logprobs else None
        text = "".join(choice.texts)
        reason: FinishReason = choice.finish_reason  # type: ignore[assignment]
        if self._heading.new_parser is None:
            return ChatChoice(index, AssistantAnswer(text), logprobs, reason)
        answer = read_answer(self._heading.new_parser(), text)
        if answer.tool_calls and reason == "stop":
            reason = "tool_calls"
        return ChatChoice(index, answer, logprobs, reason)

    def _chunk(self, choices: list[ChunkChoice]) -> ChatCompletionChunk:
        heading = self._heading
        return ChatCompletionChunk(
            heading.id, heading.created, heading.model, choices, heading.fingerprint, self._usage
        )


class CompletionWriter:
    """`POST /v1/completions`."""

    def __init__(self, heading: Heading) -> None:
        self._heading = heading
        self._usage = None if heading.include_usage else UNSET
        self._offsets: dict[int, int] = {}
        self._frames: dict[int, Frame] = {}

    def events(self, index: int, chunk: Chunk) -> bytes:
        plain = self.plain_event(index, chunk)
        if plain is not None:
            return plain
        text = chunk.text
        tokens: list[RawLogprob | str] = [*(chunk.logprobs or ())]
        if chunk.prompt is not None:
            text = (chunk.prompt.text or "") + text
            tokens = [*_scored(chunk.prompt), *tokens]
        if not (text or tokens or chunk.finish_reason):
            return b""
        if not self._heading.with_logprobs and index not in self._frames:
            bare = self._completion([CompletionChoice(index, "")], self._usage)
            self._frames[index] = _frame(bare, b'"text":""')
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(text)
        logprobs = _legacy_logprobs(tokens, offset) if self._heading.with_logprobs else None
        reason = None if chunk.finish_reason is None else chunk.finish_reason.value
        choice = CompletionChoice(index, text, logprobs, reason)  # type: ignore[arg-type]
        return _event(self._completion([choice], self._usage))

    def plain_event(self, index: int, chunk: Chunk) -> bytes | None:
        return _plain(self._frames.get(index), chunk)

    def usage_event(self, usage: CompletionUsage) -> bytes:
        return _event(self._completion([], usage)) if self._heading.include_usage else b""

    def document(self, choices: Sequence[Gathered], usage: CompletionUsage) -> bytes:
        return _encode(
            self._completion([self._choice(index, choice) for index, choice in enumerate(choices)], usage)
        )

    def _choice(self, index: int, choice: Gathered) -> CompletionChoice:
        logprobs = _legacy_logprobs(choice.logprobs, 0) if self._heading.with_logprobs else None
        return CompletionChoice(index, "".join(choice.texts), logprobs, choice.finish_reason)  # type: ignore[arg-type]

    def _completion(
        self, choices: list[CompletionChoice], usage: CompletionUsage | None | msgspec.UnsetType
    ) -> Completion:
        heading = self._heading
        return Completion(heading.id, heading.created, heading.model, choices, heading.fingerprint, usage)


def _event(chunk: Event) -> bytes:
    return b"data: " + _encode(chunk) + b"\n\n"


def _frame(bare: Event, empty: bytes) -> Frame:
    """Cut an event open at its `empty` text, which no string can hold: its quotes would be escaped."""
    before, found, after = _event(bare).partition(empty)
    return before + found[:-2], after


def _plain(frame: Frame | None, chunk: Chunk) -> bytes | None:
    text, _, logprobs, finish_reason, _, _, _, prompt = chunk
    if frame is None or finish_reason is not None or logprobs or prompt is not None:
        return None
    return b"".join((frame[0], _encode(text), frame[1])) if text else b""


def _scored(prompt: PromptDetails) -> list[RawLogprob | str]:
    """The prompt's tokens; the first is its text alone, since nothing precedes it."""
    if prompt.logprobs is None:
        return []
    rest = [token for token in prompt.logprobs if token is not None]
    text = prompt.text or ""
    return [text[: len(text) - sum(len(token.token) for token in rest)], *rest]


def _chat_logprobs(tokens: Iterable[RawLogprob | str]) -> ChoiceLogprobs:
    return ChoiceLogprobs(
        [
            TokenLogprob(
                token.token,
                token.logprob,
                list(token.bytes),
                [TopLogprob(other.token, other.logprob, list(other.bytes)) for other in token.top],
            )
            for token in tokens
            if not isinstance(token, str)
        ]
    )


def _legacy_logprobs(tokens: Iterable[RawLogprob | str], offset: int) -> LegacyLogprobs:
    found = LegacyLogprobs([], [], [], [])
    for token in tokens:
        text = token if isinstance(token, str) else token.token
        found.tokens.append(text)
        found.text_offset.append(offset)
        found.token_logprobs.append(None if isinstance(token, str) else token.logprob)
        found.top_logprobs.append(
            None if isinstance(token, str) else {other.token: other.logprob for other in token.top}
        )
        offset += len(text)
    return found
