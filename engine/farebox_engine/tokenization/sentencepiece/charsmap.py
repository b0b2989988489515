"""SentencePiece's compiled rules of normalisation: which characters become which.

The format is that of `Normalizer::DecodePrecompiledCharsMap` (google/sentencepiece, src/normalizer.cc):
the trie's size in bytes, the trie, and what the rules write, each ended by a NUL. The trie is a double
array of Darts-clone (s-yata/darts-clone, include/darts.h), of UTF-8 bytes.
"""

from __future__ import annotations

import struct
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence

from farebox_engine.tokenization.sentencepiece.protobuf import FormatError

_HEAD = struct.Struct("<I")
# The largest that SentencePiece has of itself (nmt_nfkc_cf) has 300 KB.
_MAX_BYTES = 1 << 20
# Equal endings are stored once, so that a small file may hold many keys, or a ring. In bytes:
_MAX_NODES, _MAX_KEY, _MAX_TEXT = 1 << 20, 256, 256
_LEAF = 1 << 31  # the mark of a unit that holds a value
_BYTE = _LEAF | 0xFF


class Charsmap:
    """The rules of one model. Most stay compiled: the usual ones are 225,000, in 240 KB.

    `singles` are the rules for one character. Those for more begin with one of `firsts`, and go on with one
    of `seconds`.
    """

    def __init__(self, blob: bytes) -> None:
        """Raises FormatError: the bytes are no rules. An empty `blob` has none."""
        size = _HEAD.unpack_from(blob)[0] if len(blob) > _HEAD.size else 0
        if blob and (not 0 < size < len(blob) <= _MAX_BYTES or size % 4):
            raise FormatError("its normalisation has a wrong size")
        self._units = array("I", struct.unpack_from(f"<{size // 4}I", blob, _HEAD.size) if blob else ())
        self._texts = _Texts(blob[_HEAD.size + size :])
        self.singles: dict[str, str] = {}
        self.firsts: set[str] = set()
        self.seconds: set[str] = set()
        self._longest = 0
        for key, start in _walk(self._units):
            self._enter(_decode(key), self._texts[start])

    def match(self, text: str, start: int) -> tuple[int, str] | None:
        """How many characters the longest key there has, and what is written for it."""
        if text[start] in self.firsts:
            return self._longest_match(text[start : start + self._longest].encode())
        single = self.singles.get(text[start])
        return None if single is None else (1, single)

    def _enter(self, key: str, written: str) -> None:
        self._longest = max(self._longest, len(key))
        if len(key) == 1:
            self.singles[key] = written
        else:
            self.firsts.add(key[0])
            self.seconds.add(key[1])

    def _longest_match(self, text: bytes) -> tuple[int, str] | None:
        found = None
        at = _offset(self._units[0])
        for end, byte in enumerate(text, start=1):
            at ^= byte
            if at >= len(self._units) or self._units[at] & _BYTE != byte:
                break
            unit = self._units[at]
            at ^= _offset(unit)
            if _has_value(unit):
                found = end, self._texts[self._units[at] & ~_LEAF]
        return found and (len(text[: found[0]].decode()), found[1])


class _Texts(dict[int, str]):
    """What rules write, by where it begins; each is read once."""

    def __init__(self, blob: bytes) -> None:
        super().__init__()
        self._blob = blob

    def __missing__(self, start: int) -> str:
        end = self._blob.find(b"\0", start, start + _MAX_TEXT)
        if end < 0:
            raise FormatError("its normalisation goes past its end")
        text = self[start] = _decode(self._blob[start:end])
        return text


def _walk(units: Sequence[int]) -> Iterator[tuple[bytes, int]]:
    """Every key of the trie, and its value."""
    children = _children(units)
    open_nodes = [(_offset(units[0]), b"")] if units else []
    seen = 0
    while open_nodes:
        base, prefix = open_nodes.pop()
        for child in children.get(base, ()):
            seen += 1
            if seen > _MAX_NODES or len(prefix) == _MAX_KEY:
                raise FormatError("its normalisation has too many rules")
            key, below = prefix + bytes([base ^ child]), child ^ _offset(units[child])
            if _has_value(units[child]):
                yield key, _value(units, below)
            open_nodes.append((below, key))


def _children(units: Sequence[int]) -> dict[int, list[int]]:
    """Where the children of a node lie, by what its position and its offset make: each tells its own byte."""
    children: dict[int, list[int]] = defaultdict(list)
    for position, unit in enumerate(units):
        byte = unit & _BYTE
        if 0 < byte <= 0xFF:
            children[position ^ byte].append(position)
    return children


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & (1 << 9)) >> 6)


def _has_value(unit: int) -> bool:
    return bool(unit >> 8 & 1)


def _value(units: Sequence[int], position: int) -> int:
    if position >= len(units):
        raise FormatError("its normalisation goes past its end")
    return units[position] & ~_LEAF


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"its normalisation holds no text ({error})") from error
