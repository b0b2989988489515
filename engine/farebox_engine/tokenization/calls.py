"""Calls of tools, read out of what a model writes: as JSON, or in Qwen3-Coder's XML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

_IN_STRING = "Unterminated string"
_FUNCTION = re.compile(r"\s*<function=([^>\s]+)>")
_FUNCTION_BEGUN = re.compile(r"<function=[^>\s]*")
_PARAMETER = re.compile(r"\s*<parameter=([^>\s]+)>")
# A value ends where the next parameter begins, or the function ends: it may hold the mark itself.
_VALUE_END = re.compile(r"</parameter>(?=\s*(?:<parameter=[^>\s]+>|</function>))")
_FUNCTION_END = re.compile(r"\s*</function>\s*")
_JSON_BEGUN = re.compile(
    r"""\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")(?:\s*,\s*"(?:arguments|parameters)"\s*:\s*(.*))?""",
    re.DOTALL,
)


class Call(NamedTuple):
    """A function's name, and its arguments as the JSON text of an object."""

    name: str
    arguments: str


class CutShort:
    """Stands for a call of which the end is yet to come."""


def json_call(text: str, tools: Mapping[str, object]) -> Call | type[CutShort] | None:
    """The call that `text` is. CutShort if it ends within a string; None if no call of one of `tools`."""
    try:
        found = json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        return CutShort if error.msg.startswith(_IN_STRING) else None
    except (ValueError, RecursionError):
        return None
    return _call(found, tools)


def calls_in_json(text: str, tools: Mapping[str, object], *, cut: bool = False) -> list[Call] | None:
    """The calls that `text` is, split by semicolons or white space; None if it is anything else.

    `cut`: the last may be the beginning of one, which is left out.
    """
    decoder = json.JSONDecoder(strict=False)
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
        place = end + len(text[end:]) - len(text[end:].lstrip("; \t\r\n"))
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


def xml_call(text: str, tools: Mapping[str, object]) -> Call | type[CutShort] | None:
    """As `json_call`, for `<function=NAME><parameter=NAME>VALUE</parameter>…</function>`.

    A value is the text between its marks, less a line break at either end; where the tool's schema asks
    for something else than a string, it is JSON.
    """
    opened = _FUNCTION.match(text)
    if opened is None:
        return None
    arguments, place, cut = _parameters(text, opened.end(), tools.get(opened[1]))
    if cut:
        return CutShort
    closed = _FUNCTION_END.fullmatch(text, place)
    return Call(opened[1], _written(arguments)) if closed and opened[1] in tools else None


def begins_xml_call(text: str, tools: Mapping[str, object]) -> bool:
    """As `begins_json_call`."""
    opened = _FUNCTION.match(text)
    if opened is not None:
        return opened[1] in tools
    begun = text.lstrip()
    return bool(_FUNCTION_BEGUN.fullmatch(begun)) or "<function=".startswith(begun)


def _parameters(text: str, place: int, schema: object) -> tuple[dict[str, object], int, bool]:
    """The parameters from `place` on, where they end, and whether that is within one."""
    found: dict[str, object] = {}
    while opened := _PARAMETER.match(text, place):
        ended = _VALUE_END.search(text, opened.end())
        if ended is None:
            return found, place, True
        value = text[opened.end() : ended.start()]
        value = value.removeprefix("\n").removesuffix("\n")
        found[opened[1]] = _value(value, _property(schema, opened[1]))
        place = ended.end()
    return found, place, False


def _property(schema: object, name: str) -> Mapping[str, object]:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    found = properties.get(name) if isinstance(properties, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _value(text: str, schema: Mapping[str, object]) -> object:
    kind = schema.get("type", "string" if not schema or "enum" in schema else None)
    if kind == "string" or (isinstance(kind, list) and "string" in kind and text != "null"):
        return text
    if kind == "boolean" and text.strip().lower() in {"true", "false"}:
        return text.strip().lower() == "true"
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text


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
    return Call(name, _written(arguments)) if isinstance(arguments, dict) else None


def _object(text: str) -> object:
    """Arguments that a model wrote as a string of JSON."""
    try:
        return json.loads(text or "{}", strict=False)
    except (ValueError, RecursionError):
        return text


def _written(arguments: object) -> str:
    """JSON; with escapes where half a surrogate pair, which no encoding has, was escaped."""
    written = json.dumps(arguments, ensure_ascii=False)
    return json.dumps(arguments) if re.search(r"[\ud800-\udfff]", written) else written


def _may_become_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        return error.msg.startswith(_IN_STRING) or error.pos >= len(text.rstrip())
    except (ValueError, RecursionError):
        pass
    return False
