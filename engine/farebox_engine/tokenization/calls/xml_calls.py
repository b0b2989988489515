"""Calls that Qwen3-Coder writes in marks of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping

from farebox_engine.tokenization.calls.call import Call, CutShort, load, with_arguments

_FUNCTION = re.compile(r"\s*<function=([^>\s]+)>")
_FUNCTION_BEGUN = re.compile(r"<function=[^>\s]*")
_PARAMETER = re.compile(r"\s*<parameter=([^>\s]+)>")
# A value ends where the next parameter begins, or the function ends: it may hold the mark itself.
_VALUE_END = re.compile(r"</parameter>(?=\s*(?:<parameter=[^>\s]+>|</function>))")
_FUNCTION_END = re.compile(r"\s*</function>\s*")
# What may yet become such an end.
_MAY_END = re.compile(r"(</parameter>)(\s?)\s*((?:</?[^>\s]*)?)\Z")
_TEXT_OR_NULL = ["string", "null"]
_SHORTEST_OPENING = len("<parameter=x")


def xml_call(text: str, tools: Mapping[str, object]) -> Call | type[CutShort] | None:
    """The call that `text` is, as `<function=NAME><parameter=NAME>VALUE</parameter>…</function>`.

    A value is the text between its marks, less a line break at either end; where the tool's schema asks
    for something else than a string, it is JSON.
    """
    opened = _FUNCTION.match(text)
    if opened is None or opened[1] not in tools:
        return None
    arguments, place, cut = _parameters(text, opened.end(), tools[opened[1]])
    if cut:
        return CutShort
    return with_arguments(opened[1], arguments) if _FUNCTION_END.fullmatch(text, place) else None


def outline(schema: object) -> dict[str, object]:
    """Of a JSON schema of arguments, what `xml_call` reads: which of its properties are texts.

    The schema may have a megabyte, and a parser lives as long as its answer.
    """
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    names = properties if isinstance(properties, Mapping) else ()
    return {"properties": {name: {"type": _kind(_property(schema, name))} for name in names}}


def begins_xml_call(text: str, tools: Mapping[str, object]) -> bool:
    """Whether `text` may become a call of one of `tools`."""
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


def _kind(schema: Mapping[str, object]) -> object:
    """As `type` has it; None for all that is JSON."""
    kind = schema.get("type", "string" if not schema or "enum" in schema else None)
    if isinstance(kind, list):
        return _TEXT_OR_NULL if "string" in kind else None
    return kind if kind in ("string", "boolean") else None


def _value(text: str, schema: Mapping[str, object]) -> object:
    kind = _kind(schema)
    if kind == "string" or (kind == _TEXT_OR_NULL and text != "null"):
        return text
    if kind == "boolean" and text.strip().lower() in {"true", "false"}:
        return text.strip().lower() == "true"
    try:
        return load(text)
    except (ValueError, RecursionError):
        return text


class ValueWatch:
    """Whether a call so far ends within a parameter's value, in which a mark closes nothing."""

    def __init__(self, begun: str) -> None:
        """`begun` is a call that ends within a value."""
        self.inside = True
        self._left = _undecided(begun)

    def feed(self, text: str) -> None:
        """Take what comes next."""
        if not self.inside:
            return
        text, place = self._left + text, 0
        while ended := _VALUE_END.search(text, place):
            opened = _PARAMETER.match(text, ended.end())
            if opened is None:
                self.inside = False
                return
            place = opened.end()
        self._left = _undecided(text[place:])


def _undecided(text: str) -> str:
    """What is to be looked at again when more comes. It is short, however long a name or white space is."""
    may_end = _MAY_END.search(text)
    if may_end is None:
        return text[1 - len("</parameter>") :]
    mark, space, begun = may_end.groups()
    return mark + space + begun[:_SHORTEST_OPENING]
