"""One character for another: those of a user's texts for private-use ones, and back."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from farebox_engine.errors import TemplateError

_FIRST, _LAST = 0xF0000, 0x10FFFD
# What is exchanged in one call, which keeps the interpreter to itself.
_PIECE = 65_536
# Characters from which it is worth the while to go by arrays.
_LONG = 128

RUN = re.compile(f"[{chr(_FIRST)}-{chr(_LAST)}]+")


class StandIns(dict[int, int]):
    """Code points to their stand-ins, which are given out in turn, each when it is first asked for.

    They are of the planes for private use. No text of a user holds one once it is exchanged: a user's own
    private-use characters have stand-ins as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self._originals: dict[int, int] = {}

    def __missing__(self, code: int) -> int:
        stand_in = _FIRST + len(self)
        if stand_in > _LAST:
            raise TemplateError("The messages use too many different characters.")
        self[code] = stand_in
        self._originals[stand_in] = code
        return stand_in

    def put(self, text: str) -> str:
        """`text` with a stand-in in every place."""
        return _by_pieces(self._put, text)

    def take_back(self, text: str) -> str:
        """`text` with what its stand-ins stand for; other characters stay."""
        return _by_pieces(self._take_back, text)

    def _put(self, piece: str) -> str:
        if len(piece) < _LONG:
            return piece.translate(self)
        exchanged = {code: self[code] for code in map(ord, set(piece))}
        table = np.zeros(max(exchanged) + 1, np.uint32)
        table[list(exchanged)] = list(exchanged.values())
        return _spelt(table[_codes(piece)])

    def _take_back(self, piece: str) -> str:
        if len(piece) < _LONG:
            return piece.translate(self._originals)
        codes = _codes(piece).copy()
        given = (codes >= _FIRST) & (codes < _FIRST + len(self))
        # A dict keeps the order in which its keys came.
        originals = np.fromiter(self, np.uint32, len(self))
        codes[given] = originals[codes[given] - _FIRST]
        return _spelt(codes)


def _by_pieces(exchange: Callable[[str], str], text: str) -> str:
    if len(text) <= _PIECE:
        return exchange(text)
    return "".join([exchange(text[start : start + _PIECE]) for start in range(0, len(text), _PIECE)])


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def _spelt(codes: NDArray[np.uint32]) -> str:
    return codes.astype("<u4", copy=False).tobytes().decode("utf-32-le", "surrogatepass")
