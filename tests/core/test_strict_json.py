"""How much JSON is read, counted before any of it is built."""

import gc
import json

import msgspec
import pytest

from farebox.core.strict_json import MAX_VALUES, InvalidField, StrictDecoder, TooManyValues


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A prompt of token ids, or of several texts."""

    prompt: list[int | str | list[int]]


DECODER = StrictDecoder(Body)


@pytest.mark.parametrize("ids", [[50_000] * 131_072, [[31_999] * 2_047] * 64], ids=["one", "several"])
def test_prompts_of_a_whole_context_are_read(ids: list[int | str | list[int]]) -> None:
    assert DECODER.decode(json.dumps({"prompt": ids}, separators=(",", ":")).encode()).prompt == ids


def test_as_many_values_as_the_bound_are_read_and_no_more() -> None:
    text = "," * (MAX_VALUES - 2)
    assert DECODER.decode(b'{"prompt":["%s"]}' % text.encode()).prompt == [text]
    with pytest.raises(TooManyValues, match=f"{MAX_VALUES + 1} .* at most {MAX_VALUES}"):
        DECODER.decode(b'{"prompt":["%s,"]}' % text.encode())


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
