"""Tokens to text, one at a time, in whole characters."""

from __future__ import annotations

import codecs
from collections.abc import Collection

from farebox_engine.tokenization.vocabulary import Vocabulary


class Detokenizer:
    """Turns the tokens of one completion into text; O(1) per token.

    Never emits part of a character: its bytes wait until the rest has come. Bytes that
    can never become a character turn into U+FFFD. What is still incomplete at the end of
    the completion is dropped. So is white space at both ends, if the vocabulary says so.
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
        self._trims = vocabulary.trims
        self._begun = not starts_text
        self._spaces = ""

    @property
    def incomplete(self) -> bool:
        """Whether bytes of an unfinished character are held, or white space that may be the last."""
        return self._incomplete or bool(self._spaces)

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
            text = data.decode("ascii")
        else:
            text = self._decoder.decode(data)
            self._incomplete = bool(self._decoder.getstate()[0])
        return self._trimmed(text) if self._trims else text

    def _trimmed(self, text: str) -> str:
        """The text so far unseen, without white space that nothing precedes or, as yet, follows."""
        text = self._spaces + text
        if not self._begun:
            text = text.lstrip()
        kept = text.rstrip()
        self._begun = self._begun or bool(kept)
        self._spaces = text[len(kept) :]
        return kept
