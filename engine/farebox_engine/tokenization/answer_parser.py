"""What in a model's answer is reasoning, what is a call of a tool, and what is said to the user."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from farebox_engine.tokenization.answer_format import (
    CLOSE_CALL,
    CLOSE_REASONING,
    OPEN_CALL,
    OPEN_REASONING,
    AnswerFormat,
)
from farebox_engine.tokenization.calls.call import Call, CutShort, Watch
from farebox_engine.tokenization.calls.json_calls import (
    StringWatch,
    begins_json_call,
    calls_in_json,
    json_call,
)
from farebox_engine.tokenization.calls.xml_calls import ValueWatch, begins_xml_call, xml_call

_PIECE = 4_096


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
        self._coming: deque[str] = deque()
        self._buffer = ""
        self._cut = False
        self._gap = ""  # white space before the call's mark, to be given back if it is no call
        self._body: list[str] = []  # of a call, what is not in the buffer any more
        self._first_mark: int | None = None  # where in the body; None while there is none
        self._watch: Watch | None = None  # over what follows the first mark
        self._fed = 0
        self._in_vain = 0  # up to here in what was fed, a value that is open at a mark does not end well

    def feed(self, text: str) -> list[Part]:
        """The parts that `text` completes."""
        self._coming.extend(_pieces(text))
        return list(self._read_coming(at_end=False))

    def finish(self, *, cut: bool = False) -> list[Part]:
        """What is left at the end of the answer; `cut`: the model would have gone on."""
        self._cut = cut
        return list(self._read_coming(at_end=True))

    def _read_coming(self, *, at_end: bool) -> Iterator[Part]:
        """By pieces, so that what is taken off the buffer's beginning does not move a long rest."""
        while True:
            if self._coming:
                piece = self._coming.popleft()
                self._buffer += piece
                self._fed += len(piece)
            yield from self._read(at_end=at_end and not self._coming)
            if not self._coming:
                return

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
            self._take_body(len(self._buffer))
            if at_end:
                yield from self._read_bare_calls()
            return
        while (end := self._buffer.find(CLOSE_CALL)) >= 0:
            self._take_body(end)
            if self._watch is None or not self._watch.inside:
                text = "".join(self._body)
                call = self._call(text)
                if call is not CutShort:
                    yield self._end_call(text, CLOSE_CALL, call)
                    return
                if self._first_mark is None:
                    self._first_mark = len(text)
                    self._watch = (ValueWatch if self._xml else StringWatch)(text)
            # The mark stands inside of an argument.
            self._take_body(len(CLOSE_CALL))
        # What may be the beginning of a mark stays.
        self._take_body(len(self._buffer) if at_end else max(0, len(self._buffer) + 1 - len(CLOSE_CALL)))
        if at_end:
            yield from self._read_unclosed()

    def _read_bare_calls(self) -> Iterator[Part]:
        whole = self._leave_call()
        found = calls_in_json(whole, self._tools, cut=self._cut)
        yield from [Content(whole)] if found is None else [ToolCall(*call) for call in found]

    @property
    def _xml(self) -> bool:
        return self._calls == "qwen3_coder"

    def _call(self, text: str) -> Call | type[CutShort] | None:
        """The call that `text`, which a mark follows, may be."""
        call = (xml_call if self._xml else json_call)(text, self._tools)
        return None if call is CutShort and self._place < self._in_vain else call

    @property
    def _place(self) -> int:
        """Where, in what was fed, the buffer begins."""
        return self._fed - len(self._buffer)

    def _take_body(self, length: int) -> None:
        """Put the first characters of the buffer to the call's body."""
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        self._body.append(text)
        if self._watch is not None:
            self._watch.feed(text)

    def _leave_call(self) -> str:
        body = "".join(self._body)
        self._body, self._first_mark, self._watch, self._in_call = [], None, None, False
        return body

    def _read_unclosed(self) -> Iterator[Part]:
        text = "".join(self._body)
        if self._first_mark is not None:
            # Nor does one whose quotes are never closed go beyond it.
            yield self._end_call(text, CLOSE_CALL, None)
            return
        call = (xml_call if self._xml else json_call)(text, self._tools)
        if self._cut and not isinstance(call, Call):
            begun = (begins_xml_call if self._xml else begins_json_call)(text, self._tools)
            call = CutShort if begun else None
        part = self._end_call(text, "", call)
        if not (self._cut and call is CutShort):
            yield part

    def _end_call(self, body: str, mark: str, call: Call | type[CutShort] | None) -> Part:
        """Leave the call, which the `mark` closes that the buffer begins with; give it, or what else it is.

        One that is none ends with the first mark: its quotes do not match. What follows is read anew, but
        values that are open there would come to the same end.
        """
        if call is None and self._first_mark is not None:
            self._in_vain = self._place if self._xml else 0
            body, after = body[: self._first_mark], body[self._first_mark :]
            self._read_again(after)
        self._leave_call()
        self._buffer = self._buffer[len(mark) :]
        self._reasons = False
        self._begun = not isinstance(call, Call)
        return ToolCall(*call) if isinstance(call, Call) else Content(self._gap + OPEN_CALL + body + mark)

    def _read_again(self, text: str) -> None:
        """Have the buffer begin with `text`, and the rest come anew."""
        self._fed -= len(text) + len(self._buffer)
        self._coming.extendleft(reversed(_pieces(text + self._buffer)))
        self._buffer = self._coming.popleft()
        self._fed += len(self._buffer)

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


def _pieces(text: str) -> list[str]:
    return [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]


def _overlap(text: str, mark: str) -> int:
    """The longest end of `text` that `mark` begins with."""
    return next((size for size in range(len(mark) - 1, 0, -1) if text.endswith(mark[:size])), 0)
