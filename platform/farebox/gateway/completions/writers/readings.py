"""An answer's text as a message: content, reasoning, calls of tools."""

import secrets
from collections.abc import Sequence

from msgspec import UNSET

from farebox.gateway.completions.responses import (
    AssistantAnswer,
    ChoiceDelta,
    FunctionCall,
    ToolCallAnswer,
    ToolCallDelta,
)
from farebox.gateway.models.answer_format import AnswerParser, Content, Part, Reasoning, ToolCall


class Reading:
    """One streamed answer, read piece by piece. `calls` counts the calls so far."""

    def __init__(self, parser: AnswerParser) -> None:
        self._parser = parser
        self.calls = 0

    def deltas(self, text: str, finish_reason: str | None) -> list[ChoiceDelta]:
        """What `text` adds to the message; `finish_reason` where it is the last."""
        parts = self._parser.feed(text)
        if finish_reason is not None:
            parts += self._parser.finish(cut=finish_reason != "stop")
        return [self._delta(part) for part in parts]

    def _delta(self, part: Part) -> ChoiceDelta:
        match part:
            case Content(text):
                return ChoiceDelta(content=text)
            case Reasoning(text):
                return ChoiceDelta(reasoning_content=text)
            case ToolCall(name, arguments):
                call = ToolCallDelta(self.calls, _new_id(), FunctionCall(name, arguments))
                self.calls += 1
                return ChoiceDelta(tool_calls=[call])


def read_answer(parser: AnswerParser, text: str, finish_reason: str) -> AssistantAnswer:
    """A whole answer's text as a message; its content is null where it only calls."""
    parts = parser.feed(text) + parser.finish(cut=finish_reason != "stop")
    calls = [
        ToolCallAnswer(_new_id(), FunctionCall(part.name, part.arguments))
        for part in parts
        if isinstance(part, ToolCall)
    ]
    content = _said(parts, Content)
    return AssistantAnswer(
        content=content if content or not calls else None,
        tool_calls=calls or UNSET,
        reasoning_content=_said(parts, Reasoning) or UNSET,
    )


def _said(parts: Sequence[Part], kind: type[Content] | type[Reasoning]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


def _new_id() -> str:
    return f"call_{secrets.token_hex(12)}"
