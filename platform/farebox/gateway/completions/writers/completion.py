"""How the answer to `POST /v1/completions` is written."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from farebox.gateway.completions.responses import Completion, CompletionChoice, CompletionUsage
from farebox.gateway.completions.writers.choices import ChoiceBuffer
from farebox.gateway.completions.writers.events import (
    EventTemplate,
    encode,
    event,
    plain_text_event,
    template_of,
)
from farebox.gateway.completions.writers.logprobs import ScoredToken, legacy_logprobs, scored_prompt
from farebox.gateway.completions.writers.writer import AnswerHead
from farebox.gateway.models.generation import Chunk


class CompletionWriter:
    """`POST /v1/completions`."""

    id_prefix: ClassVar[str] = "cmpl-"

    def __init__(self, head: AnswerHead) -> None:
        self._head = head
        self._usage = None if head.include_usage else UNSET
        self._offsets: dict[int, int] = {}
        self._templates: dict[int, EventTemplate] = {}
        self._ended = 0
        self._held_back: CompletionChoice | None = None

    def events(self, index: int, chunk: Chunk) -> bytes:
        plain = self.plain_event(index, chunk)
        if plain is not None:
            return plain
        text = chunk.text
        tokens: list[ScoredToken] = [*(chunk.logprobs or ())]
        if chunk.prompt is not None:
            text = (chunk.prompt.text or "") + text
            tokens = [*scored_prompt(chunk.prompt), *tokens]
        reason = None if chunk.finish_reason is None else chunk.finish_reason.value
        if reason is not None and self._holds_back(index, reason):
            reason = None
        if not (text or tokens or reason):
            return b""
        if not self._head.with_logprobs and index not in self._templates:
            bare = self._completion([CompletionChoice(index, "")], self._usage)
            self._templates[index] = template_of(bare, b'"text":""')
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(text)
        logprobs = legacy_logprobs(tokens, offset) if self._head.with_logprobs else None
        choice = CompletionChoice(index, text, logprobs, reason)  # type: ignore[arg-type]
        return event(self._completion([choice], self._usage))

    def plain_event(self, index: int, chunk: Chunk) -> bytes | None:
        return plain_text_event(self._templates.get(index), chunk)

    def closing_events(self, usage: CompletionUsage, receipt: str | None) -> bytes:
        told: str | UnsetType = receipt or UNSET
        if self._head.include_usage:
            return event(msgspec.structs.replace(self._completion([], usage), receipt=told))
        if self._held_back is None:
            return b""
        return event(msgspec.structs.replace(self._completion([self._held_back], UNSET), receipt=told))

    def document(self, choices: Sequence[ChoiceBuffer], usage: CompletionUsage) -> bytes:
        # One choice at a time: a call that writes megabytes keeps the interpreter to itself.
        written = [msgspec.Raw(encode(self._choice(index, choice))) for index, choice in enumerate(choices)]
        return encode(self._completion(written, usage))  # type: ignore[arg-type]  # the same, as JSON

    def _holds_back(self, index: int, reason: str) -> bool:
        """Whether this is the last choice's end, and it waits for the receipt."""
        self._ended += 1
        if not self._head.closes_with_receipt or self._ended < self._head.choices:
            return False
        self._held_back = CompletionChoice(index, "", None, reason)  # type: ignore[arg-type]
        return True

    def _choice(self, index: int, choice: ChoiceBuffer) -> CompletionChoice:
        logprobs = legacy_logprobs(choice.logprobs, 0) if self._head.with_logprobs else None
        return CompletionChoice(index, "".join(choice.texts), logprobs, choice.finish_reason)  # type: ignore[arg-type]

    def _completion(
        self, choices: list[CompletionChoice], usage: CompletionUsage | None | UnsetType
    ) -> Completion:
        head = self._head
        return Completion(head.id, head.created, head.model, choices, head.fingerprint, usage)
