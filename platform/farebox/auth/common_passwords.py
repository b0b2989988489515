"""Passwords that everybody tries first (NIST SP 800-63B, 5.1.1.2).

A password has twelve characters or more, so few of the published lists' entries come into question, and
those are made alike: a common word or two with digits around them. Hence a list of words (the leading
ones of those lists, and this product's own name), and how they are dressed up.
"""

import re
from importlib.resources import files

from farebox.core.errors import BadRequest

_WORDS = frozenset(files("farebox.auth").joinpath("common_words.txt").read_text().split())
_ROWS = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1q2w3e4r5t6y7u8i9o0p",
)
_MOST_WORDS = 3
_DRESS = str.maketrans("0134578@$!", "oieastbasi")


class CommonPassword(BadRequest):
    code = "invalid_password"

    def __init__(self) -> None:
        super().__init__(
            "This password is one of those that are tried first. Take a sentence of your own instead.",
            param="password",
        )


def refuse_common(password: str) -> str:
    """The password itself. Raises CommonPassword."""
    if is_common(password):
        raise CommonPassword
    return password


def is_common(password: str) -> bool:
    """Whether it is a common word or two in some dress, a row of keys, or one piece over and over."""
    lowered = password.lower()
    if _repeats(lowered) or any(lowered in 2 * row or lowered in 2 * row[::-1] for row in _ROWS):
        return True
    if any(character.isalpha() and not character.isascii() for character in lowered):
        return False
    bare = re.sub(r"^[^a-z]+|[^a-z]+$", "", lowered)
    forms = {bare, re.sub(r"[^a-z]", "", bare), _letters(lowered), _letters(bare)}
    return any(form and _is_of_words(form) for form in forms)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.translate(_DRESS))


def _repeats(text: str) -> bool:
    """Whether a piece of at most a third of its length is all that it is made of."""
    return any(text == (text[:size] * len(text))[: len(text)] for size in range(1, len(text) // 3 + 1))


def _is_of_words(text: str, words_left: int = _MOST_WORDS) -> bool:
    if text in _WORDS:
        return True
    return words_left > 1 and any(
        text[:end] in _WORDS and _is_of_words(text[end:], words_left - 1) for end in range(1, len(text))
    )
