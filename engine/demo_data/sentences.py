"""Everyday sentences from Tatoeba, and small tasks made from them."""

# ruff: noqa: E501, SIM905 - templates and word lists read best unbroken.

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from demo_data.phrasing import vary
from demo_data.smalltalk import Exchange

_AUTHOR = re.compile(r"#\d+ \(([^()]*)\)")
_COMMON = frozenset(
    "about after again always another because before could doesn every father first from going have here "
    "just know like little make many more mother much never only other people should some something than "
    "that their them then there these they thing think this time today tomorrow very want were what when "
    "where which while will with without would your yesterday".split()
)


def read_pairs(text: str) -> tuple[list[str], list[str]]:
    """Return the distinct English sentences of a pairs file, and the names of their authors.

    Each line holds English, a translation and "... #id (author) & #id (author)", tab separated; the
    first author wrote the English.
    """
    sentences: dict[str, None] = {}
    authors: set[str] = set()
    for line in text.splitlines():
        english, _, rest = line.partition("\t")
        credit = _AUTHOR.search(rest)
        if english.isascii() and credit:
            sentences[english] = None
            authors.add(credit[1])
    return list(sentences), sorted(authors, key=str.casefold)


class SentenceTasks:
    """Asks for a sentence with a given word, and answers with one that has it."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self._by_word: dict[str, list[str]] = {}
        for sentence in sentences:
            if 20 <= len(sentence) <= 90 and sentence.endswith("."):
                for word in set(re.findall(r"[a-z]{4,}", sentence)) - _COMMON:
                    self._by_word.setdefault(word, []).append(sentence)
        self._words = sorted(word for word, found in self._by_word.items() if len(found) >= 3)

    def exchange(self, rng: random.Random) -> Exchange:
        word = rng.choice(self._words)
        question = '[use the word "{word}" in a sentence|make a sentence with "{word}"|write a sentence with the word "{word}"|give me a sentence with "{word}"][.|, please.]'
        return vary(question, rng, word=word), rng.choice(self._by_word[word])
