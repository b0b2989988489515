"""From logits to labels: of whole inputs, and of stretches of a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from farebox_engine.encoders.job import Output
from farebox_engine.encoders.models.config import Problem
from farebox_engine.encoders.outputs import Entity, LabelScore

_OUTSIDE = "O"


def label_scores(logits: Output, labels: Sequence[str], problem: Problem) -> list[LabelScore]:
    """Every label with its score, the best first, for ``logits`` [labels]."""
    scores = torch.from_numpy(logits)
    if problem is Problem.SINGLE:
        scores = scores.softmax(-1)
    elif problem is Problem.MULTI:
        scores = scores.sigmoid()
    found = [LabelScore(label, score) for label, score in zip(labels, scores.tolist(), strict=True)]
    return sorted(found, key=lambda entry: -entry.score)


@dataclass(slots=True)
class _EntityGroup:
    """Tokens that carry one label, as they are gathered."""

    label: str
    scores: list[float]
    start: int
    end: int


def entities(
    logits: Output,
    labels: Sequence[str],
    offsets: Sequence[tuple[int, int] | None],
    text: str,
    *,
    merged: bool,
) -> list[Entity]:
    """What ``logits`` [length, labels] find in ``text``, but for the label "O".

    With ``merged``, neighbours of one label become one entity with their mean score; "B-" begins a new
    one ("simple" aggregation in `transformers`). Otherwise each token is one.
    """
    best, choice = torch.from_numpy(logits).softmax(-1).max(-1)
    tokens = zip(best.tolist(), choice.tolist(), offsets, strict=True)
    pieces = ((labels[label], score, place) for score, label, place in tokens if place is not None)
    return [
        Entity(
            group.label,
            sum(group.scores) / len(group.scores),
            group.start,
            group.end,
            text[group.start : group.end],
        )
        for group in _groups(pieces, merged)
        if group.label != _OUTSIDE
    ]


def _groups(pieces: Iterator[tuple[str, float, tuple[int, int]]], merged: bool) -> Iterator[_EntityGroup]:
    current: _EntityGroup | None = None
    for label, score, (start, end) in pieces:
        begins = label.startswith("B-")
        name = label[2:] if merged and label.startswith(("B-", "I-")) else label
        if merged and current is not None and current.label == name and not begins:
            current.scores.append(score)
            current.end = end
            continue
        if current is not None:
            yield current
        current = _EntityGroup(name, [score], start, end)
    if current is not None:
        yield current
