"""Reads `a[b][0][c]=v` as Stripe's clients write it.

Whether `a[0]` is a list's first entry or a hash's key "0" is for the parameter's type to say, so that all
containers come out as dicts here.
"""

import re
from typing import cast
from urllib.parse import parse_qsl

from tests.stripe_server.wire.errors import Json, refused

_KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART = re.compile(r"\[([^\[\]]*)\]")


def decode_form(text: str) -> Json:
    """Nested dicts with strings at their ends. Raises StripeError for keys that are no path."""
    decoded: Json = {}
    for key, value in parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict"):
        _put(decoded, _path(key), value, key)
    return decoded


def _path(key: str) -> list[str]:
    match = _KEY.fullmatch(key)
    if match is None:
        raise refused(f"Invalid parameter name: {key}", param=key)
    return [match[1], *_PART.findall(match[2])]


def _put(into: Json, path: list[str], value: str, key: str) -> None:
    for part in path[:-1]:
        inner = into.setdefault(part or str(len(into)), {})
        if not isinstance(inner, dict):
            raise refused("Invalid hash", param=key)
        into = cast(Json, inner)
    last = path[-1] or str(len(into))
    if isinstance(into.get(last), dict):
        raise refused("Invalid hash", param=key)
    into[last] = value


def name(path: list[str]) -> str:
    """How Stripe names a parameter in its errors: `a[b][0]`."""
    return path[0] + "".join(f"[{part}]" for part in path[1:]) if path else ""
