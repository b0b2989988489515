"""Calls that a model writes as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from farebox_engine.tokenization.calls.call import Call, CutShort, load, refuse_constant, with_arguments

_IN_STRING = "Unterminated string"
_BETWEEN = re.compile(r"[; \t\r\n]*")
_REST_OF_STRING = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_JSON_BEGUN = re.compile(
    r"""\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")(?:\s*,\s*"(?:arguments|parameters)"\s*:\s*(.*))?""",
    re.DOTALL,
)


def json_call(text: str, tools: Mapping[str, object]) -> Call | type[CutShort] | None:
    """The call that `text` is. CutShort if it ends within a string; None if no call of one of `tools`."""
    try:
        found = load(text)
    except json.JSONDecodeError as error:
        return CutShort if error.msg.startswith(_IN_STRING) else None
    except (ValueError, RecursionError):
        return None
    return _call(found, tools)


def calls_in_json(text: str, tools: Mapping[str, object], *, cut: bool = False) -> list[Call] | None:
    """The calls that `text` is, split by semicolons or white space; None if it is anything else.

    `cut`: the last may be the beginning of one, which is left out.
    """
    decoder = json.JSONDecoder(strict=False, parse_constant=refuse_constant)
    calls: list[Call] = []
    place = 0
    while place < len(text):
        try:
            found, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            begun = cut and begins_json_call(text[place:], tools, with_arguments=True)
            return calls if begun else None
        call = _call(found, tools)
        if call is None:
            return None
        calls.append(call)
        place = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]  # it matches nothing, too
    return calls


def begins_json_call(text: str, tools: Mapping[str, object], *, with_arguments: bool = False) -> bool:
    """Whether `text` may become a call of one of `tools`; `with_arguments`: and these have begun."""
    if not _may_become_json(text):
        return False
    begun = _JSON_BEGUN.match(text)
    if begun is None:
        return not with_arguments
    first = (begun[2] or "")[:1]
    return json.loads(begun[1], strict=False) in tools and (first == "{" or not (first or with_arguments))


def _call(found: object, tools: Mapping[str, object]) -> Call | None:
    if not isinstance(found, dict):
        return None
    name = found.get("name")
    if not isinstance(name, str) or name not in tools:
        return None
    arguments = found.get("arguments", found.get("parameters"))
    if isinstance(arguments, str):
        arguments = _object(arguments)
    if arguments is None:
        arguments = {}
    return with_arguments(name, arguments) if isinstance(arguments, dict) else None


def _object(text: str) -> object:
    """Arguments that a model wrote as a string of JSON."""
    try:
        return load(text or "{}")
    except (ValueError, RecursionError):
        return text


def _may_become_json(text: str) -> bool:
    try:
        load(text)
    except json.JSONDecodeError as error:
        return error.msg.startswith(_IN_STRING) or error.pos >= len(text.rstrip())
    except (ValueError, RecursionError):
        pass
    return False


class StringWatch:
    """Whether JSON so far ends within a string, in which a mark closes nothing.

    Outside of strings it looks for quotes alone. A backslash is there in no JSON: with it, all is over.
    So of two texts that begin at different places, one is over soon; neither is followed to the end again
    and again.
    """

    def __init__(self, begun: str) -> None:
        """`begun` is JSON that ends within a string."""
        self.inside = True
        slashes = len(begun) - len(begun.rstrip("\\"))
        # What an odd one escapes is yet to come.
        self._left = "\\" * (slashes % 2)
        self._over = False

    def feed(self, text: str) -> None:
        """Take what comes next."""
        text, place = self._left + text, 0
        while place < len(text) and not self._over:
            if self.inside:
                end = _REST_OF_STRING.match(text, place).end()  # type: ignore[union-attr]  # nothing, too
                if end == len(text) or text[end] == "\\":
                    place = end
                    break
                self.inside, place = False, end + 1
            else:
                place = self._over_to_string(text, place)
        self._left = "" if self._over else text[place:]

    def _over_to_string(self, text: str, place: int) -> int:
        quote = text.find('"', place)
        end = len(text) if quote < 0 else quote
        self._over = text.find("\\", place, end) >= 0
        self.inside = quote >= 0 and not self._over
        return end + 1
