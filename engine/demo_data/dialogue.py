"""Conversations: exchanges on several subjects, strung together as people do."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from demo_data import everyday, smalltalk
from demo_data.continuation import ContinuationTasks
from demo_data.facts import fact
from demo_data.sentences import SentenceTasks
from demo_data.smalltalk import Exchange, exchange, names_in_context
from demo_data.stories import poem, story_turns
from farebox_engine.training.corpus import Conversation, Message

_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer in short sentences.",
    "You are the demo model of Farebox.",
    "Answer the user's questions kindly.",
    "Be brief.",
)


Subject = Callable[[random.Random], list[Exchange]]


class DialogueWriter:
    """Writes conversations from a seed; the same seed writes the same ones."""

    def __init__(self, seed: int, sentences: list[str], documents: list[str]) -> None:
        self._rng = random.Random(seed)  # noqa: S311 (variety, not secrecy)
        words, books = SentenceTasks(sentences), ContinuationTasks(documents)
        # Weights by how much there is to learn. Names, lists and echoes look back into the conversation,
        # which a small model learns late and only from many examples.
        self._subjects: list[tuple[int, Subject]] = [
            (30, lambda rng: [fact(rng)]),
            (18, story_turns),
            (8, lambda rng: [exchange(rng, smalltalk.SELF)]),
            (8, lambda rng: [exchange(rng, smalltalk.FAREBOX)]),
            # What everybody asks first.
            (2, lambda rng: [exchange(rng, smalltalk.FAREBOX[:1])]),
            (6, lambda rng: [exchange(rng, smalltalk.FEELINGS)]),
            (6, names_in_context),
            (3, lambda rng: [exchange(rng, smalltalk.UNKNOWN)]),
            (4, lambda rng: [words.exchange(rng)]),
            (2, lambda rng: [poem(rng)]),
            (5, everyday.reason),
            (2, everyday.ability),
            (4, everyday.opinion),
            (3, everyday.description),
            (2, everyday.letter),
            (4, everyday.shopping),
            (5, lambda rng: everyday.statement(rng, sentences)),
            (8, lambda rng: everyday.echo(rng, sentences)),
            (5, books.exchange),
        ]

    def write(self, count: int) -> Iterator[Conversation]:
        """Yield ``count`` conversations of one to about eight turns."""
        for _ in range(count):
            yield self._conversation()

    def _conversation(self) -> Conversation:
        rng = self._rng
        turns: list[Exchange] = []
        if rng.random() < 0.25:
            turns.append(exchange(rng, smalltalk.GREETINGS))
        weights, subjects = zip(*self._subjects, strict=True)
        for subject in rng.choices(
            subjects, weights, k=rng.choice([0, 1, 1, 1, 2, 3] if turns else [1, 1, 1, 2, 3])
        ):
            turns += subject(rng)
        if rng.random() < 0.2:
            turns.append(exchange(rng, smalltalk.CLOSINGS))
        messages = [Message("system", rng.choice(_SYSTEM_PROMPTS))] if rng.random() < 0.15 else []
        for said, answered in turns:
            messages += [Message("user", self._typed(said)), Message("assistant", answered)]
        return Conversation(tuple(messages))

    def _typed(self, text: str) -> str:
        """What people do at a keyboard: no capital, no full stop."""
        if self._rng.random() < 0.2:
            text = text[:1].lower() + text[1:]
        if self._rng.random() < 0.15:
            text = text.rstrip(".?!")
        return text
