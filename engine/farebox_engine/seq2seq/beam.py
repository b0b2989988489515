"""Beam search over one request, with the scores and ends of `transformers`."""

from __future__ import annotations

import math
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Literal

# Stands for "no hypothesis yet"; finite, as in transformers, so that sums stay numbers.
WORST = -1e9


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running hypothesis, `parent`, made longer by `token`; `score` is the sum of log-probabilities."""

    score: float
    parent: int
    token: int


class BeamSearch:
    """Keeps the `num_beams` best running hypotheses and the as many best finished ones.

    A finished hypothesis scores its log-probability divided by its length, end token
    included, to the power of `length_penalty`. `early_stopping`: see `GenerationConfig`.
    """

    def __init__(
        self,
        num_beams: int,
        *,
        limit: int,
        end_token_ids: frozenset[int],
        length_penalty: float,
        early_stopping: bool | Literal["never"],
    ) -> None:
        self.num_beams = num_beams
        # So many that enough go on even if every beam's best are the end tokens.
        self.candidates = max(2, 1 + len(end_token_ids)) * num_beams
        # All hypotheses begin alike: only the first may bring any forth.
        self.scores = [0.0] + [WORST] * (num_beams - 1)
        self.done = False
        self._limit = limit
        self._ends = end_token_ids
        self._penalty = length_penalty
        self._early_stopping = early_stopping
        self._length = 0
        self._finished: list[tuple[float, list[int]]] = []

    def advance(self, candidates: Seq[Candidate], rows: Seq[Seq[int]]) -> list[Candidate]:
        """Take a step's best candidates, best first; returns those to go on with, none once `done`.

        `rows` are the tokens of the running hypotheses, in the order of `scores`.
        """
        self._length += 1
        for rank, candidate in enumerate(candidates):
            # Worse ones are there to replace those that end, never to end themselves.
            if rank < self.num_beams and self._ends_with(candidate):
                self._finish(candidate, rows[candidate.parent])
        going_on = [each for each in candidates if not self._ends_with(each)][: self.num_beams]
        self.scores = [each.score for each in going_on]
        self.done = not going_on or self._cannot_improve()
        return [] if self.done else going_on

    @property
    def best(self) -> list[int]:
        """The tokens of the best finished hypothesis; empty before one is."""
        return self._finished[0][1] if self._finished else []

    def _ends_with(self, candidate: Candidate) -> bool:
        return candidate.token in self._ends or self._length >= self._limit

    def _finish(self, candidate: Candidate, tokens: Seq[int]) -> None:
        score = self._normalised(candidate.score, self._length)
        self._finished.append((score, [*tokens, candidate.token]))
        self._finished.sort(key=lambda each: -each[0])
        del self._finished[self.num_beams :]

    def _cannot_improve(self) -> bool:
        if len(self._finished) < self.num_beams:
            return False
        if self._early_stopping is True:
            return True
        farthest = self._early_stopping == "never" and self._penalty > 0
        length = self._limit if farthest else self._length
        return self._normalised(self.scores[0], length) <= self._finished[-1][0]

    def _normalised(self, score: float, length: int) -> float:
        return score / math.pow(length, self._penalty)
