"""What one run of a template may use up, and whose its characters are."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any

from jinja2.sandbox import SandboxedFormatter

from farebox_engine.errors import TemplateError
from farebox_engine.tokenization.templates.marked_text import Marking
from farebox_engine.tokenization.templates.stand_ins import RUN
from farebox_engine.tokenization.templates.weights import CONTAINERS, Weights

MAX_SECONDS = 2.0
MAX_CHARACTERS = 4_000_000
MAX_ITEMS = 1_000_000
MAX_WIDTH = 100_000

# What JSON escapes in any case; first what is in every escape.
_ESCAPED = {code: json.dumps(chr(code))[1:-1] for code in (ord("\\"), ord('"'), *range(0x20))}
_NOT_ASCII = re.compile(rf"{RUN.pattern}|[^\x00-~]")
_NUMBER = re.compile(r"\d+")
_CONVERSION = re.compile(r"%(?:\([^)]*\))?([^a-zA-Z%]*)[a-zA-Z%]")


class Rendering:
    """A run of a template. Whatever the template makes goes by here, so that it stays within bounds."""

    def __init__(self, marking: Marking, max_seconds: float, max_characters: int) -> None:
        self.marking = marking
        self._max_seconds = max_seconds
        self._max_characters = max_characters
        self._deadline = time.monotonic() + max_seconds
        self.weights = Weights(max_characters)

    def check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise TemplateError(f"The chat template ran longer than {self._max_seconds:g} seconds.")

    def check_size(self, characters: int) -> None:
        if characters > self._max_characters:
            raise TemplateError(f"The chat template wrote more than {self._max_characters} characters.")

    def take(self, value: Any) -> Any:
        """A value that was just made, for the template to go on with."""
        if type(value) is str:
            self.check_size(len(value))
            return self.marking.text(value)
        if isinstance(value, CONTAINERS):
            self.weights.check(value)
        return value

    def escaped(self, text: str, *, ascii_only: bool) -> str:
        """JSON, whose encoder did not know stand-ins, with escapes for what these stand for."""
        if not ascii_only:
            return self.marking.respelt(text, _ESCAPED)
        return _NOT_ASCII.sub(self._in_ascii, text)

    def _in_ascii(self, found: re.Match[str]) -> str:
        plain = self.marking.plain(found[0])
        escaped = json.dumps(plain)[1:-1]
        return escaped if plain == found[0] else self.marking.users(escaped)


current: ContextVar[Rendering] = ContextVar("current")


def tick() -> str:
    """For loops and macros to call in each turn."""
    current.get().check_time()
    return ""


def take(value: Any) -> Any:
    """`Rendering.take` of the run under way; outside of one, as when Jinja folds constants, the value."""
    rendering = current.get(None)
    return value if rendering is None else rendering.take(value)


def timed(value: Any) -> Any:
    """What may have taken its time."""
    rendering = current.get(None)
    if rendering is not None:
        rendering.check_time()
    return value


def written(value: Any) -> Any:
    """What a template is about to write out; a list takes its time."""
    return timed(value) if isinstance(value, CONTAINERS) else value


def searched(value: Any) -> Any:
    """What a template looks for something in."""
    rendering = current.get(None)
    return rendering.marking.searched(value) if rendering and type(value) is str else value


def concatenated(values: Iterable[Any]) -> str:
    """What `~` makes of values."""
    parts, size = [], 0
    for value in values:
        parts.append(str(value))
        size += len(parts[-1])
        check_size(size)
    return "".join(parts)


def joined(parts: Iterable[str]) -> str:
    """How Jinja puts together what a macro or a block writes."""
    found = list(parts)
    rendering = current.get(None)
    if rendering is not None:
        rendering.check_size(sum(map(len, found)))
    text: str = take("".join(found))
    return text


def check_size(characters: int) -> None:
    """For a text that is about to be made. Fails outside of a run: no constant is folded."""
    current.get().check_size(characters)


def check_weights(values: Iterable[object]) -> None:
    """For what is about to be passed on, and may be kept."""
    for value in values:
        if isinstance(value, CONTAINERS):
            current.get().weights.check(value)


def check_items(items: int) -> None:
    if items > MAX_ITEMS:
        raise TemplateError("The chat template makes a list that is too long.")


def check_widths(values: Iterable[object]) -> None:
    """For arguments that say how wide a text becomes."""
    if any(isinstance(value, int) and value > MAX_WIDTH for value in values):
        raise TemplateError("The chat template makes a text too wide.")


def check_join(separator: object, items: Sequence[object]) -> None:
    size = len(separator) * len(items) if isinstance(separator, str) else 0
    check_size(size + sum(len(item) for item in items if isinstance(item, str)))


def check_replace(text: str, old: object, new: object) -> None:
    if isinstance(old, str) and isinstance(new, str):
        check_size(len(text) + text.count(old) * max(0, len(new) - len(old)))


def check_conversions(pattern: str, values: object) -> None:
    """For `pattern % values`: widths, and how long a text may come of it."""
    widths = [int(n) for spec in _CONVERSION.findall(pattern) for n in _NUMBER.findall(spec)]
    given = values if isinstance(values, tuple) else [values]
    if any("*" in spec for spec in _CONVERSION.findall(pattern)):
        widths += [value for value in given if isinstance(value, int)]
    check_widths(widths)
    longest = max((len(str(value)) for value in given), default=0)
    check_size(len(pattern) + pattern.count("%") * longest)


class BoundedFormatter(SandboxedFormatter):
    """`str.format`, whose names lead where the sandbox allows, within bounds."""

    _written = 0

    def format_field(self, value: Any, format_spec: str) -> Any:
        check_widths(map(int, _NUMBER.findall(format_spec)))
        text = super().format_field(value, format_spec)
        self._written += len(text)
        check_size(self._written)
        return text
