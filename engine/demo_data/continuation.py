"""Requests to go on with a story, answered with what the book says next."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable

from demo_data.phrasing import vary
from demo_data.smalltalk import Exchange

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_LONGEST = 400


class ContinuationTasks:
    """Cuts books into sentences; a task gives one or two and asks for those that follow."""

    def __init__(self, documents: Iterable[str]) -> None:
        self._paragraphs = [
            sentences
            for document in documents
            for paragraph in document.splitlines()
            # Speech cut in the middle would teach unbalanced quotes.
            if '"' not in paragraph and len(sentences := _SENTENCE_END.split(paragraph)) >= 3
        ]

    def exchange(self, rng: random.Random) -> list[Exchange]:
        sentences = rng.choice(self._paragraphs)
        start = rng.randrange(len(sentences) - 2)
        given = rng.choice([1, 2]) if start + 3 < len(sentences) else 1
        told = sentences[start + given :]
        answer = told[0]
        for sentence in told[1:]:
            if len(answer) + len(sentence) > _LONGEST:
                break
            answer += f" {sentence}"
        asked = vary("[continue|go on with|continue this story|what happens next|go on]: ", rng)
        return [(asked + " ".join(sentences[start : start + given]), answer)]
