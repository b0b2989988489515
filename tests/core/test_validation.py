"""What msgspec says, taken apart: these sentences are its own, and a new version may change them."""

from typing import Annotated, Any

import msgspec
import pytest

from farebox.core.validation import Fault, fault_of


class Part(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    size: Annotated[int, msgspec.Meta(ge=1)] = 1


class Whole(msgspec.Struct, forbid_unknown_fields=True):
    parts: list[Part]
    named: dict[str, Part] = {}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"parts": [], "colour": 1}, Fault("unknown", "colour", "object contains unknown field `colour`")),
        (
            {"parts": [{"text": "a"}, {"text": "b", "x y": 1}]},
            Fault("unknown", "parts[1].x y", "object contains unknown field `x y`"),
        ),
        ({}, Fault("missing", "parts", "object missing required field `parts`")),
        ({"parts": [{}]}, Fault("missing", "parts[0].text", "object missing required field `text`")),
        ({"parts": 1}, Fault("invalid", "parts", "expected `array`, got `int`")),
        ({"parts": [{"text": "a", "size": 0}]}, Fault("invalid", "parts[0].size", "expected `int` >= 1")),
        ({"parts": [], "named": {"a": 1}}, Fault("invalid", "named[...]", "expected `object`, got `int`")),
        ({"parts": [], "named": {1: {}}}, Fault("invalid", "named", "expected `str`, got `int`")),
        ([], Fault("invalid", "", "expected `object`, got `array`")),
    ],
)
def test_a_fault_is_named_with_its_place(value: Any, fault: Fault) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(value, Whole)
    assert fault_of(caught.value) == fault
