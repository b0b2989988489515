"""Which tokens structure a prompt, so that no text of a user may become one."""

from __future__ import annotations

import os.path
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import cast

from farebox_engine.tokenization.special_tokens import Description, added_tokens

# Groups within groups; regular expressions are compiled by recursion.
_DEEPEST = 32


def control_tokens(description: Mapping[str, object], templates: Iterable[str]) -> dict[str, int]:
    """Special tokens, and added tokens that a chat template writes, such as <tool_call>, with their ids.

    Other added tokens (runs of spaces, HTML tags) are ordinary vocabulary. So is a single character of
    the vocabulary, such as a "!" that is called the padding: without it, a text could not be written.
    """
    written = "\0".join(templates)
    found = {
        content: cast(int, entry["id"])
        for entry in added_tokens(description)
        if (content := cast(str, entry["content"])).strip() and (entry.get("special") or content in written)
    }
    letters = {content for content in found if len(content) == 1}
    ordinary = letters & _pieces(description) if letters else set()
    return {content: number for content, number in found.items() if content not in ordinary}


def _pieces(description: Mapping[str, object]) -> set[str]:
    """The model's own vocabulary: an object of ids by piece, or a list of pieces with their scores."""
    model = description.get("model")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    return {entry if isinstance(entry, str) else entry[0] for entry in vocabulary or ()}


def with_all_special(description: Mapping[str, object], controls: Mapping[str, int]) -> Description:
    added = [{**entry, "special": entry["content"] in controls} for entry in added_tokens(description)]
    return {**description, "added_tokens": added}


def finder(controls: Collection[str]) -> re.Pattern[str]:
    """Matches every position where a control token begins, the longest first, overlaps included.

    What several begin with is looked at once, and not for each of them: the interpreter stands meanwhile.
    """
    choices = _longest_of(sorted(controls)) if controls else r"(?!)"
    return re.compile(f"(?=({choices}))")


def _longest_of(endings: Sequence[str], depth: int = 0) -> str:
    """A regular expression for the longest of `endings`, which are in order and distinct."""
    if depth == _DEEPEST:
        return f"(?:{'|'.join(map(re.escape, sorted(endings, key=len, reverse=True)))})"
    choices = "|".join(
        _after_shared(list(group), depth) for _, group in groupby(filter(None, endings), key=itemgetter(0))
    )
    return f"(?:{choices})?" if "" in endings else f"(?:{choices})"


def _after_shared(texts: Sequence[str], depth: int) -> str:
    shared = os.path.commonprefix(texts)
    endings = [text[len(shared) :] for text in texts]
    return re.escape(shared) + ("" if endings == [""] else _longest_of(endings, depth + 1))
