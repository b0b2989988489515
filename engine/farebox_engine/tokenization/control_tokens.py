"""Which tokens structure a prompt, so that no text of a user may become one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

from farebox_engine.tokenization.special_tokens import Description, added_tokens


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


def alternation(controls: Mapping[str, int]) -> re.Pattern[str]:
    """Matches every position where a control token begins, the longest first, overlaps included."""
    longest_first = sorted(controls, key=len, reverse=True)
    choices = "|".join(map(re.escape, longest_first)) or r"(?!)"
    return re.compile(f"(?=({choices}))")
