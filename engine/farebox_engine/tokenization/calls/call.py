"""A call of a tool, as it is read out of what a model writes."""

from __future__ import annotations

import json
import re
from typing import NamedTuple, NoReturn, Protocol


class Call(NamedTuple):
    """A function's name, and its arguments as the JSON text of an object."""

    name: str
    arguments: str


class CutShort:
    """Stands for a call of which the end is yet to come."""


class Watch(Protocol):
    """Told what comes after a mark that stood within an argument, says whether the next one does as well."""

    inside: bool

    def feed(self, text: str) -> None:
        """Take what comes next, marks included."""


def load(text: str) -> object:
    """What a model wrote as JSON.

    Raises:
        ValueError: it is none; NaN and Infinity, which Python reads, are none.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, strict=False, parse_constant=refuse_constant)


def with_arguments(name: str, arguments: object) -> Call | None:
    """The call, with `arguments` as JSON; None if that cannot be written.

    It has escapes where half a surrogate pair, which no encoding has, was escaped.
    """
    try:
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        halved = re.search(r"[\ud800-\udfff]", written)
        return Call(name, json.dumps(arguments, allow_nan=False) if halved else written)
    except (ValueError, RecursionError):
        return None


def refuse_constant(constant: str) -> NoReturn:
    """For `json`, which asks it about NaN and Infinity."""
    raise ValueError(f"{constant} is no JSON.")
