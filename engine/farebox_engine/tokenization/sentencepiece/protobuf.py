"""The wire format of Protocol Buffers, as far as reading takes it (protobuf.dev, "Encoding")."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MAX_SHIFT = 63  # of a varint, which has 64 bits at most


class FormatError(ValueError):
    """The bytes are not what they should be; the message says what of them is wrong."""


def read_fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in their order: number and value.

    A varint is an int; what has a length, or is 4 or 8 bytes wide, comes as its bytes.

    Raises:
        FormatError: the bytes are no message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size, at = _size(kind, message, at)
        if at + size > len(message):
            raise FormatError("a field goes past the end")
        yield key >> 3, message[at : at + size]
        at += size


def _size(kind: int, message: bytes, at: int) -> tuple[int, int]:
    """How many bytes a field's value takes, and where it begins."""
    if kind == _LENGTH:
        return _varint(message, at)
    sizes = {_FIXED64: 8, _FIXED32: 4}
    if kind not in sizes:
        raise FormatError(f"a field has the wire type {kind}")
    return sizes[kind], at


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift <= _MAX_SHIFT:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise FormatError("a number does not end")
