"""How much JSON is read, counted before any of it is built."""

import gc
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.strict_json import (
    MAX_DIGITS,
    MAX_MEMBERS,
    MAX_VALUES,
    InvalidField,
    MalformedJson,
    StrictDecoder,
    TooManyValues,
)


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A prompt of token ids, or of several texts."""

    prompt: list[int | str | list[int]]


class Fields(msgspec.Struct):
    """Fields that are kept as they came."""

    fields: msgspec.Raw


DECODER = StrictDecoder(Body)
ANY = StrictDecoder(Fields)


@pytest.mark.parametrize("ids", [[50_000] * 131_072, [[31_999] * 2_047] * 64], ids=["one", "several"])
def test_prompts_of_a_whole_context_are_read(ids: list[int | str | list[int]]) -> None:
    assert DECODER.decode(json.dumps({"prompt": ids}, separators=(",", ":")).encode()).prompt == ids


def test_as_many_values_as_the_bound_are_read_and_no_more() -> None:
    values = "0," * (MAX_VALUES - 2)
    assert len(DECODER.decode(b'{"prompt":[%s0]}' % values.encode()).prompt) == MAX_VALUES - 1
    with pytest.raises(TooManyValues, match=f"{MAX_VALUES + 1} .* at most {MAX_VALUES}"):
        DECODER.decode(b'{"prompt":[%s0,0]}' % values.encode())


def test_as_many_members_as_the_bound_are_read_and_no_more() -> None:
    members = ",".join(f'"{number}":0' for number in range(MAX_MEMBERS - 2))
    assert ANY.decode(b'{"fields":{%s}}' % members.encode()).fields
    with pytest.raises(TooManyValues, match=f"{MAX_MEMBERS + 1} members"):
        ANY.decode(b'{"fields":{"a":0,"b":0,%s}}' % members.encode())


@given(st.lists(st.text('",:[{\\é', min_size=1, max_size=9), min_size=1, max_size=5), st.integers(0, 9))
def test_what_is_in_texts_is_not_counted(pieces: list[str], shift: int) -> None:
    """Wherever the quotes fall that the count must know from others."""
    text = "x" * shift + "".join(pieces) * (400_000 // len("".join(pieces))) + ",:" * MAX_VALUES
    body = json.dumps({"prompt": [text, 7]}, ensure_ascii=False).encode()
    assert DECODER.decode(body).prompt == [text, 7]
    crowd = body.replace(b"7]}", b"7%s]}" % (b",7" * MAX_VALUES))
    with pytest.raises(TooManyValues):
        DECODER.decode(crowd)


@pytest.mark.parametrize("number", ["1", "0.", "-1."])
def test_numbers_have_so_many_digits_and_no_more(number: str) -> None:
    longest = number + "1" * (MAX_DIGITS - len(number))
    assert ANY.decode(b'{"fields":%s}' % longest.encode()).fields
    with pytest.raises(MalformedJson, match=f"{MAX_DIGITS + 1} digits"):
        ANY.decode(b'{"fields":%s1}' % longest.encode())


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"0,", b'"",', b'{"a":0},', b"[0,0],"])
def test_nothing_is_built_of_too_many_values(unit: bytes) -> None:
    body = b'{"prompt":[' + unit * (990_000 // len(unit)) + b"0]}"
    built: list[int] = []
    gc.callbacks.append(watch := lambda phase, info: built.append(1))
    try:
        with pytest.raises(TooManyValues):
            DECODER.decode(body)
    finally:
        gc.callbacks.remove(watch)
    assert not built


def test_what_is_wrong_with_fewer_is_told_by_name() -> None:
    with pytest.raises(InvalidField, match="colour"):
        DECODER.decode(b'{"prompt":[],"colour":[' + b"0," * 100_000 + b"0]}")
