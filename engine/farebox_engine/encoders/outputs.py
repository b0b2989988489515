"""What an encoder engine hands back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EncoderUsage:
    """What a request took. Times are seconds of the wall clock, except ``device_seconds``.

    ``tokens`` counts every token computed, the special ones too. ``queue_seconds`` ends when the first
    step computes an input, ``compute_seconds`` when the last one is done. ``device_seconds`` is the
    request's share of the engine's busy time.
    """

    tokens: int
    queue_seconds: float
    compute_seconds: float
    device_seconds: float


@dataclass(frozen=True, slots=True)
class Embeddings:
    """``vectors`` is fp32 [inputs, dimensions]."""

    vectors: NDArray[np.float32]
    usage: EncoderUsage


@dataclass(frozen=True, slots=True)
class LabelScore:
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Classifications:
    """For each input every label with its score, the best first."""

    labels: list[list[LabelScore]]
    usage: EncoderUsage


@dataclass(frozen=True, slots=True)
class Entity:
    """A labelled stretch of a text, characters ``start`` to ``end``."""

    label: str
    score: float
    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class TokenLabels:
    """For each input what was found in it, in order."""

    entities: list[list[Entity]]
    usage: EncoderUsage


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """``index`` is the document's place in the request."""

    index: int
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The documents, the most relevant first."""

    documents: list[RankedDocument]
    usage: EncoderUsage


@dataclass(frozen=True, slots=True)
class EncoderStats:
    """A snapshot of the engine. Counters run from the start; ``tokens_per_second`` is of the last seconds.

    Of ``busy_seconds``, ``operator_seconds`` were not charged to any request: steps that failed, and
    work for requests that were cancelled. `restarts` counts how often the engine replaced a thread that
    hung or broke. A `failed` engine has given up, and takes no more requests.
    """

    waiting_requests: int
    steps: int
    tokens: int
    failed_steps: int
    busy_seconds: float
    operator_seconds: float
    tokens_per_second: float
    restarts: int = 0
    failed: bool = False
