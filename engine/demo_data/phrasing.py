"""A small language for saying one thing in many ways."""

from __future__ import annotations

import random
import re

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
# Where a sentence begins: at the start, after one that ended, or as speech. Not after `?" ` (asked she).
_SENTENCE_START = re.compile(r'(^"?|[.!?]\s+"?|\."\s+|(?:said|thought|asked), ")([a-z])')


def vary(template: str, rng: random.Random, **slots: object) -> str:
    """Pick one of every ``[a|b|c]``, innermost first, then fill ``{name}`` from ``slots``.

    The result starts with a capital letter.
    """
    return capitalise(vary_within(template, rng, **slots))


def vary_within(template: str, rng: random.Random, **slots: object) -> str:
    """Do what `vary` does for the middle of a sentence: the first letter stays as it is."""
    text = template
    while match := _CHOICE.search(text):
        text = text[: match.start()] + rng.choice(match[1].split("|")) + text[match.end() :]
    return text.format(**slots)


def capitalise(text: str) -> str:
    """Raise the first letter only; `str.capitalize` would lower the rest."""
    return text[:1].upper() + text[1:]


def capitalise_sentences(text: str) -> str:
    """Raise the first letter of every sentence, spoken ones included."""
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


def article(noun: str) -> str:
    """Put "a" or "an" before ``noun``."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def join_words(words: list[str]) -> str:
    """Join as prose does: "a", "a and b", "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
