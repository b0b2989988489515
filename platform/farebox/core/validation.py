"""What msgspec finds wrong with a value, taken out of its message: it tells it in no other way."""

import re
from dataclasses import dataclass
from typing import Literal

import msgspec

_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fault:
    """`path` is the field at fault in OpenAI's notation (`messages[0].role`), empty for the value as a whole.

    `reason` is a sentence without its end: it begins in lower case and has no full stop.
    """

    kind: Literal["unknown", "missing", "invalid"]
    path: str
    reason: str


def fault_of(error: msgspec.ValidationError) -> Fault:
    """What is wrong, and where."""
    message = str(error)
    place = _PLACE.search(message)
    path = place.group(1) if place else ""
    reason = message[: place.start()] if place else message
    spoken = reason[:1].lower() + reason[1:]
    if match := _UNKNOWN.fullmatch(reason):
        return Fault("unknown", _join(path, match.group(1)), spoken)
    if match := _MISSING.fullmatch(reason):
        return Fault("missing", _join(path, match.group(1)), spoken)
    return Fault("invalid", path, spoken)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
