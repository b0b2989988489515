"""How SentencePiece prepares a text: characters rewritten by rules, spaces collapsed and made visible.

The same as `Normalizer::Normalize` (google/sentencepiece, src/normalizer.cc). The `tokenizers` library's
own (`Precompiled`) differs: it rewrites clusters of characters as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from farebox_engine.tokenization.sentencepiece.charsmap import Charsmap

SPACE = "\u2581"  # ▁
# Characters to look through in one call, which keeps the interpreter to itself.
_PIECE = 65_536
_SPACES = re.compile(" {2,}")
_LAST_OF_PLANE = "\uffff"


class Normalizer:
    """Prepares texts for one model; safe to use from several threads."""

    def __init__(
        self, rules: Charsmap, symbols: Iterable[str] = (), *, dummy_prefix: bool = True, trims: bool = True
    ) -> None:
        """`symbols` are what no rule touches; see `PieceModel` for the others."""
        self._rules = rules
        self._symbols = {
            first: list(alike)
            for first, alike in groupby(sorted(symbols, key=_longest_last, reverse=True), itemgetter(0))
        }
        self._prefix = SPACE if dummy_prefix else ""
        self._trims = trims
        # Where something may begin that is rewritten: at one character, or at the first two of more.
        single, first, second = map(_class, ({*rules.singles, *self._symbols}, rules.firsts, rules.seconds))
        self._pattern = re.compile(f"{single}|{first}(?={second})")

    def normalize(self, text: str) -> str:
        """The text with "▁" for spaces; empty if it holds nothing but spaces that are taken off."""
        if not text:
            return ""
        if not self._trims:
            return self._prefix + "".join(part for part, _ in self._parts(text)).replace(" ", SPACE)
        return (self._prefix + "".join(self._trimmed(text)).replace(" ", SPACE)).rstrip(SPACE)

    def _trimmed(self, text: str) -> Iterator[str]:
        """What is written of a text, without a space at its beginning or after another."""
        after_space = True
        for part, rewritten in self._parts(text):
            # Spaces within what a rule writes stay.
            kept = part if rewritten else _SPACES.sub(" ", part)
            kept = kept.lstrip(" ") if after_space else kept
            if kept:
                after_space = kept.endswith(" ")
                yield kept

    def _parts(self, text: str) -> Iterator[tuple[str, bool]]:
        """A text's stretches that stay, and what is written for the others; and which of both it is."""
        done = 0
        for start in self._places(text):
            match = self._match(text, start) if start >= done else None
            if match:
                yield text[done:start], False
                yield match[1], True
                done = start + match[0]
        yield text[done:], False

    def _places(self, text: str) -> Iterator[int]:
        """Where something may begin that is rewritten."""
        for start in range(0, len(text), _PIECE):
            end = start + _PIECE
            # The pattern looks one character ahead.
            for match in self._pattern.finditer(text, start, end + 1):
                if match.start() < end:
                    yield match.start()

    def _match(self, text: str, start: int) -> tuple[int, str] | None:
        """How many characters are written anew there, and what: a symbol, or by the longest rule."""
        symbols = self._symbols.get(text[start], ())
        symbol = next((symbol for symbol in symbols if text.startswith(symbol, start)), None)
        return (len(symbol), symbol) if symbol else self._rules.match(text, start)


def _longest_last(symbol: str) -> tuple[str, int]:
    return symbol[0], len(symbol)


def _class(characters: Collection[str]) -> str:
    """A class of characters, with all past the first plane if any: `re` would look at each of them."""
    if not characters:
        return r"(?!)"
    plane = sorted(character for character in characters if character <= _LAST_OF_PLANE)
    beyond = "\U00010000-\U0010ffff" if len(plane) < len(characters) else ""
    return f"[{''.join(map(re.escape, plane))}{beyond}]"
