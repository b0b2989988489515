"""Tokens to text, one at a time, in whole characters."""

from __future__ import annotations

import codecs
from collections.abc import Collection

from farebox_engine.tokenization.vocabulary import Vocabulary


class Detokenizer:
    """Turns the tokens of one completion into text; O(1) per token.

    Never emits part of a character: its bytes wait until the rest has come. Bytes that
    can never become a character turn into U+FFFD. What is still incomplete at the end of
    the completion is dropped.
    """

    def __init__(
        self, vocabulary: Vocabulary, *, starts_text: bool = False, spelled: Collection[int] = ()
    ) -> None:
        """`starts_text`: nothing but control tokens precedes, so that a leading space is an artefact.

        `spelled`: special tokens whose names are text here.
        """
        self._vocabulary = vocabulary
        self._spelled = spelled
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._strip = starts_text and vocabulary.strips_first_space
        self._incomplete = False

    @property
    def incomplete(self) -> bool:
        """Whether bytes of an unfinished character are held."""
        return self._incomplete

    def is_silent(self, token: int) -> bool:
        """Whether the token has no text here."""
        return self._vocabulary.is_special(token) and token not in self._spelled

    def feed(self, token: int) -> str:
        """The characters that `token` completes."""
        if self.is_silent(token):
            return ""
        data = self._vocabulary.bytes_of(token)
        if self._strip and data:
            self._strip = False
            data = data.removeprefix(b" ")
        if data.isascii() and not self._incomplete:
            return data.decode("ascii")
        text = self._decoder.decode(data)
        self._incomplete = bool(self._decoder.getstate()[0])
        return text
