"""Compiled rules of normalisation that are broken, or worse."""

import struct

import pytest

from farebox_engine.tokenization.sentencepiece.charsmap import Charsmap
from farebox_engine.tokenization.sentencepiece.protobuf import FormatError

# The root's children lie at 256 xor their byte; a key's value lies where its unit's offset leads.
SIZE, BASE = 512, 256
HAS_VALUE = 1 << 8


def unit(byte: int, offset: int, flags: int = 0) -> int:
    return byte | offset << 10 | flags


def charsmap(units: dict[int, int], texts: bytes = b"x\0") -> bytes:
    units = {0: unit(0, BASE)} | units
    trie = struct.pack(f"<{SIZE}I", *(units.get(position, 0) for position in range(SIZE)))
    return struct.pack("<I", len(trie)) + trie + texts


A = BASE ^ ord("a")
LAST = SIZE - 1  # which is 0: the first text
KEY = {A: unit(ord("a"), A ^ LAST, HAS_VALUE)}


def test_a_rule_is_read() -> None:
    rules = Charsmap(charsmap(KEY))
    assert rules.singles == {"a": "x"}
    assert (rules.match("ba", 1), rules.match("ba", 0)) == ((1, "x"), None)
    assert Charsmap(b"").singles == {}


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"\0", "wrong size"),
        (struct.pack("<I", 4), "wrong size"),
        (struct.pack("<I", 6) + bytes(20), "wrong size"),
        (struct.pack("<I", 400) + bytes(20), "wrong size"),
        (charsmap({}, bytes(1 << 20)), "wrong size"),
        (charsmap(KEY, b"x"), "past its end"),
        (charsmap(KEY, b"x" * 300 + b"\0"), "past its end"),
        (charsmap({A: unit(ord("a"), 100_000, HAS_VALUE)}), "past its end"),
        (charsmap(KEY, b"\xff\0"), "holds no text"),
        (charsmap({BASE ^ 0x80: unit(0x80, BASE ^ 0x80 ^ LAST, HAS_VALUE)}), "holds no text"),
        # A ring: what follows the byte are the root's children again.
        (charsmap({A: unit(ord("a"), A ^ BASE)}), "too many rules"),
        # Two ways at each of many steps.
        (
            charsmap({A: unit(ord("a"), A ^ BASE), BASE ^ ord("b"): unit(ord("b"), ord("b"))}),
            "too many rules",
        ),
    ],
)
def test_what_are_no_rules_is_refused(blob: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        Charsmap(blob)
