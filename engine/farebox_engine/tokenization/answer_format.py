"""What in a model's answer is reasoning, what is a call of a tool, and what is said to the user.

Models write all three into one text, each family by marks of its own; their chat template, which has to
write the same marks when a conversation goes on, tells which.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from farebox_engine.tokenization.calls import (
    Call,
    CutShort,
    begins_json_call,
    begins_xml_call,
    calls_in_json,
    json_call,
    xml_call,
)

CallStyle = Literal["hermes", "llama3", "qwen3_coder"]

OPEN_REASONING, CLOSE_REASONING = "<think>", "</think>"
OPEN_CALL, CLOSE_CALL = "<tool_call>", "</tool_call>"
# What `str.lstrip` takes off, as a regular expression that a grammar can hold.
WHITE_SPACE = r"[\s\x1c-\x1f]"
# Marks of calls in forms that are not read: [TOOL_CALLS], <|tool_call|>, <x:tool_call>, <arg_key> and such.
_OTHER_MARKS = re.compile(
    r"<arg_key>|<invoke\b|<function name=|\[TOOL_CALLS?\]|(?!</?tool_call>)"
    r"<(?:[^\s<>'\"]*[^\s<>'\"a-zA-Z0-9])?(?i:(?:tool|function)[_\u2581]?calls?)[^\s<>\[\]'\"]*>"
)
# `{% if not message.tool_calls|length == 1 %}{{ raise_exception("… single tool-calls at once!") }}`
_ONE_CALL = re.compile(r"tool_calls\s*\|\s*length\s*(?:==|!=|>)\s*1\b[^{]*\{\{-?\s*raise_exception")


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
    """The marks of one model. `calls` is None where its chat template knows no tools, or an unknown form.

    `hermes` (Hermes, Qwen): `<tool_call>{"name": …, "arguments": …}</tool_call>`, any number of them.
    `qwen3_coder`: in the same marks, `<function=NAME><parameter=NAME>…</parameter></function>`.
    `llama3` (Llama 3.1 and later): the whole answer is `{"name": …, "parameters": …}`, several split by `;`.
    """

    calls: CallStyle | None = None
    reasons: bool = False
    # Whether the template refuses an earlier answer of more than one call, as Llama 3.1's does.
    one_call: bool = False

    @classmethod
    def of(cls, template: str | None, plain: str | None = None) -> AnswerFormat:
        """The format that a chat template shows; `plain` is the one for chats without tools, if another."""
        template = template or ""
        reasons = CLOSE_REASONING in template or CLOSE_REASONING in (plain or "")
        return cls(_call_style(template), reasons, bool(_ONE_CALL.search(template)))

    @property
    def marks(self) -> tuple[str, ...]:
        """What the model writes around reasoning and calls."""
        around_calls = (OPEN_CALL, CLOSE_CALL) if self.calls in {"hermes", "qwen3_coder"} else ()
        return ((OPEN_REASONING, CLOSE_REASONING) if self.reasons else ()) + around_calls


def _call_style(template: str) -> CallStyle | None:
    if not re.search(r"\btools\b", template) or _OTHER_MARKS.search(template):
        return None
    if OPEN_CALL in template:
        if "<function=" in template:
            return "qwen3_coder"
        return "hermes"
    return "llama3" if '"parameters"' in template else None


class AnswerParser:
    """Takes an answer's text as it comes and tells its parts; a mark may arrive in pieces.

    Reasoning and content come as they are written, a call once it is whole. What looks like a call but
    is none (no JSON, no tool that was offered) is content, to the letter. A call that is cut short with
    its answer is left out: arguments that are no JSON would break whoever reads them.
    """

    def __init__(self, style: AnswerFormat, *, tools: Mapping[str, object], opened: bool = False) -> None:
        """`tools` maps the names of what was offered to JSON schemas of arguments.

        `opened`: the prompt itself ends with the mark that opens reasoning.
        """
        self._reasons = style.reasons
        self._calls = style.calls if tools else None
        self._tools = tools
        self._reasoning = opened
        self._in_call = False
        self._begun = False
        self._buffer = ""
        self._cut = False
        self._gap = ""  # white space before the call's mark, to be given back if it is no call
        self._ruled_out = 0  # up to here, marks in the buffer do not close the call

    def feed(self, text: str) -> list[Part]:
        """The parts that `text` completes."""
        self._buffer += text
        return list(self._read(at_end=False))

    def finish(self, *, cut: bool = False) -> list[Part]:
        """What is left at the end of the answer; `cut`: the model would have gone on."""
        self._cut = cut
        return list(self._read(at_end=True))

    def _read(self, *, at_end: bool) -> Iterator[Part]:
        before = None
        while (self._buffer or (self._in_call and at_end)) and before != (
            before := (self._buffer, self._reasoning, self._in_call)
        ):
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
        marked = self._calls in {"hermes", "qwen3_coder"}
        text, found = self._take_until((OPEN_CALL,) if marked else (), at_end)
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
                found = calls_in_json(whole, self._tools, cut=self._cut)
                yield from [Content(whole)] if found is None else [ToolCall(*call) for call in found]
            return
        read = xml_call if self._calls == "qwen3_coder" else json_call
        while (end := self._buffer.find(CLOSE_CALL, self._ruled_out)) >= 0:
            call = read(self._buffer[:end], self._tools)
            if call is None and self._ruled_out:
                # Its quotes do not match: it ends with the first mark.
                end = self._buffer.find(CLOSE_CALL)
            if call is not CutShort:
                yield self._end_call(end, CLOSE_CALL, call)
                return
            # The mark stands inside of an argument.
            self._ruled_out = end + len(CLOSE_CALL)
        if at_end:
            yield from self._read_unclosed()

    def _read_unclosed(self) -> Iterator[Part]:
        xml = self._calls == "qwen3_coder"
        first = self._buffer.find(CLOSE_CALL)
        if first >= 0:
            # Nor does one whose quotes are never closed go beyond it.
            yield self._end_call(first, CLOSE_CALL, None)
            return
        call = (xml_call if xml else json_call)(self._buffer, self._tools)
        if self._cut and not isinstance(call, Call):
            begun = (begins_xml_call if xml else begins_json_call)(self._buffer, self._tools)
            call = CutShort if begun else None
        part = self._end_call(len(self._buffer), "", call)
        if not (self._cut and call is CutShort):
            yield part

    def _end_call(self, end: int, mark: str, call: Call | type[CutShort] | None) -> Part:
        """Take the call off, up to the `mark` that closes it; give it, or what it is if none."""
        body, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
        self._in_call, self._ruled_out = False, 0
        self._reasons = False
        self._begun = not isinstance(call, Call)
        return ToolCall(*call) if isinstance(call, Call) else Content(self._gap + OPEN_CALL + body + mark)

    def _take_until(self, marks: tuple[str, ...], at_end: bool) -> tuple[str, str | None]:
        """The text before the first of `marks`, and that; holds back what may be the start of one.

        White space before a mark belongs to the mark, so that it is held back as well.
        """
        found = min((mark for mark in marks if mark in self._buffer), key=self._buffer.index, default=None)
        if found is not None:
            text, _, self._buffer = self._buffer.partition(found)
            said = text.rstrip()
            self._gap = text[len(said) :]
            return said, found
        split = len(self._buffer)
        if marks and not at_end:
            split -= max(_overlap(self._buffer, mark) for mark in marks)
            split = len(self._buffer[:split].rstrip())
        text, self._buffer = self._buffer[:split], self._buffer[split:]
        return text, None


def _overlap(text: str, mark: str) -> int:
    """The longest end of `text` that `mark` begins with."""
    return next((size for size in range(len(mark) - 1, 0, -1) if text.endswith(mark[:size])), 0)
