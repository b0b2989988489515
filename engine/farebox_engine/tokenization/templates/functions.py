"""Functions and filters that chat templates are given."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NoReturn

from farebox_engine.errors import TemplateError
from farebox_engine.tokenization.templates import rendering
from farebox_engine.tokenization.templates.marked_text import MarkedText

MAX_MARGIN = 256
_MAX_SEPARATOR = 16


def to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`json.dumps`, whose arguments these are, without escapes for HTML.

    A user's text, and what is escaped in it, stays a user's.
    """
    margin = indent if isinstance(indent, int) else len(indent or "")
    if margin > MAX_MARGIN or any(len(separator) > _MAX_SEPARATOR for separator in separators or ()):
        raise TemplateError("The chat template asks for JSON that is too wide.")
    encoder = json.JSONEncoder(
        # A stand-in must stay one character; what it stands for is escaped below.
        ensure_ascii=False,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
    text = encoder.encode(value) if indent is None else _gathered(encoder.iterencode(value))
    return rendering.current.get().escaped(text, ascii_only=ensure_ascii)


def _gathered(parts: Iterable[str]) -> str:
    """Indented, what is deep grows out of proportion: its size is looked at on the way."""
    found, size = [], 0
    for count, part in enumerate(parts):
        size += len(part)
        rendering.check_size(size)
        if not count % 1000:
            rendering.tick()
        found.append(part)
    return "".join(found)


def raise_exception(message: str) -> NoReturn:
    raise TemplateError(f"The chat template refuses these messages: {message}")


def strftime_now(format: str) -> str:  # noqa: A002  # as `transformers` calls it
    """The server's own date and time, as `transformers` gives them: naive, so without a zone."""
    if len(format) > 1000:
        raise TemplateError("The chat template asks for a date that is too long.")
    marking = rendering.current.get().marking
    now = datetime.now(tz=UTC).astimezone().replace(tzinfo=None)
    if not isinstance(format, MarkedText):
        return now.strftime(format)
    return marking.made_of(now.strftime(marking.plain(format)))
