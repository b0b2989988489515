"""What in a model's answer is reasoning, what is a call of a tool, and what is said to the user.

Models write all three into one text, each family by marks of its own; their chat template, which has to
write the same marks when a conversation goes on, tells which.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

CallStyle = Literal["hermes", "llama3"]

OPEN_REASONING, CLOSE_REASONING = "<think>", "</think>"
OPEN_CALL, CLOSE_CALL = "<tool_call>", "</tool_call>"
# What `str.lstrip` takes off, as a regular expression that a grammar can hold.
WHITE_SPACE = r"[\s\x1c-\x1f]"


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model wrote for itself."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function: its name, and its arguments as the JSON text of an object."""

    name: str
    arguments: str


Part: TypeAlias = Content | Reasoning | ToolCall


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The marks of one model. `calls` is None where its chat template knows no tools.

    `hermes` (Hermes, Qwen): `<tool_call>{"name": …, "arguments": …}</tool_call>`, any number of them.
    `llama3` (Llama 3.1 and later): the whole answer is `{"name": …, "parameters": …}`, several split by `;`.
    """

    calls: CallStyle | None = None
    reasons: bool = False

    @classmethod
    def of(cls, template: str | None) -> AnswerFormat:
        """The format that a chat template shows."""
        template = template or ""
        calls: CallStyle | None = None
        if re.search(r"\btools\b", template):
            if OPEN_CALL in template:
                calls = "hermes"
            elif '"parameters"' in template:
                calls = "llama3"
        return cls(calls, CLOSE_REASONING in template)


class AnswerParser:
    """Takes an answer's text as it comes and tells its parts; a mark may arrive in pieces.

    Reasoning and content come as they are written, a call once it is whole. What looks like a call but
    is none (no JSON, no name) is content, to the letter. Calls are looked for only when tools were
    offered.
    """

    def __init__(self, style: AnswerFormat, *, with_tools: bool, opened: bool = False) -> None:
        """`opened`: the prompt itself ends with the mark that opens reasoning."""
        self._reasons = style.reasons
        self._calls = style.calls if with_tools else None
        self._reasoning = opened
        self._in_call = False
        self._begun = False
        self._buffer = ""

    def feed(self, text: str) -> list[Part]:
        """The parts that `text` completes."""
        self._buffer += text
        return list(self._read(at_end=False))

    def finish(self) -> list[Part]:
        """What is left at the end of the answer."""
        return list(self._read(at_end=True))

    def _read(self, *, at_end: bool) -> Iterator[Part]:
        before = None
        while self._buffer and before != (before := (self._buffer, self._reasoning, self._in_call)):
            if self._in_call:
                yield from self._read_call(at_end)
            elif self._reasoning:
                yield from self._read_reasoning(at_end)
            else:
                yield from self._read_content(at_end)

    def _read_reasoning(self, at_end: bool) -> Iterator[Part]:
        text, found = self._take_until((CLOSE_REASONING,), at_end)
        if found:
            self._reasoning = False
            self._begun = False
        if text:
            yield Reasoning(text)

    def _read_content(self, at_end: bool) -> Iterator[Part]:
        if not self._begun:
            self._buffer = self._buffer.lstrip() if self._reasons or self._calls else self._buffer
            if not self._buffer or self._opens_reasoning(at_end):
                return
            if self._calls == "llama3" and self._buffer[0] == "{":
                self._in_call = True
                return
        text, found = self._take_until((OPEN_CALL,) if self._calls == "hermes" else (), at_end)
        self._in_call = found == OPEN_CALL
        if text:
            self._begun = True
            yield Content(text)

    def _opens_reasoning(self, at_end: bool) -> bool:
        """Whether what is left begins with the mark that opens reasoning, which it takes off, or yet may."""
        if not self._reasons:
            return False
        if self._buffer.startswith(OPEN_REASONING):
            self._buffer = self._buffer.removeprefix(OPEN_REASONING)
            self._reasoning = True
            return True
        return not at_end and OPEN_REASONING.startswith(self._buffer)

    def _read_call(self, at_end: bool) -> Iterator[Part]:
        if self._calls == "llama3":
            if at_end:
                whole, self._buffer, self._in_call = self._buffer, "", False
                yield from _llama_calls(whole)
            return
        end = self._buffer.find(CLOSE_CALL)
        if end < 0 and not at_end:
            return
        body = self._buffer if end < 0 else self._buffer[:end]
        self._buffer = "" if end < 0 else self._buffer[end + len(CLOSE_CALL) :]
        self._in_call = False
        call = _read_json_call(body, "arguments")
        self._reasons = False
        self._begun = call is None
        yield call or Content(OPEN_CALL + body + ("" if end < 0 else CLOSE_CALL))

    def _take_until(self, marks: tuple[str, ...], at_end: bool) -> tuple[str, str | None]:
        """The text before the first of `marks`, and that; holds back what may be the start of one.

        White space before a mark belongs to the mark, so that it is held back as well.
        """
        found = min((mark for mark in marks if mark in self._buffer), key=self._buffer.index, default=None)
        if found is not None:
            text, _, self._buffer = self._buffer.partition(found)
            return text.rstrip(), found
        split = len(self._buffer)
        if marks and not at_end:
            split -= max(_overlap(self._buffer, mark) for mark in marks)
            split = len(self._buffer[:split].rstrip())
        text, self._buffer = self._buffer[:split], self._buffer[split:]
        return text, None


def _overlap(text: str, mark: str) -> int:
    """The longest end of `text` that `mark` begins with."""
    return next((size for size in range(len(mark) - 1, 0, -1) if text.endswith(mark[:size])), 0)


def _llama_calls(text: str) -> Iterator[Part]:
    decoder = json.JSONDecoder()
    calls: list[ToolCall] = []
    place = 0
    while place < len(text):
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        call = _read_json_call(text[place:end], "parameters")
        if call is None:
            break
        calls.append(call)
        place = end + len(text[end:]) - len(text[end:].lstrip("; \t\r\n"))
    if place < len(text) or not calls:
        yield Content(text)
    else:
        yield from calls


def _read_json_call(text: str, key: str) -> ToolCall | None:
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict):
        return None
    name, arguments = call.get("name"), call.get(key, {})
    if not isinstance(name, str) or not _is_unicode(name) or not isinstance(arguments, dict):
        return None
    written = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(name, written if _is_unicode(written) else json.dumps(arguments))


def _is_unicode(text: str) -> bool:
    """Half a surrogate pair, which JSON can escape and a model can write, is in no encoding."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
