"""Response bodies of the encoders' endpoints."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class EncodingUsage(Struct, frozen=True):
    """What the request is billed for: every token computed, the special ones too."""

    prompt_tokens: int
    total_tokens: int


class Embedding(Struct, frozen=True):
    """A vector: numbers, or with `encoding_format: base64` its little-endian float32 bytes."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingList(Struct, frozen=True):
    """The answer of `POST /v1/embeddings`."""

    data: list[Embedding]
    model: str
    usage: EncodingUsage
    object: Literal["list"] = "list"


class RankedText(Struct, frozen=True):
    text: str


class RankedResult(Struct, frozen=True):
    """A document by its place in the request; the most relevant come first."""

    index: int
    relevance_score: float
    document: RankedText | UnsetType = UNSET


class RankedList(Struct, frozen=True):
    """The answer of `POST /v1/rerank`."""

    id: str
    model: str
    results: list[RankedResult]
    usage: EncodingUsage


class ScoredLabel(Struct, frozen=True):
    label: str
    score: float


class FoundEntity(Struct, frozen=True):
    """A labelled stretch of the input: characters `start` to `end`."""

    label: str
    score: float
    start: int
    end: int
    text: str


class Classification(Struct, frozen=True):
    """One input. `scores` has every label of a classifier of texts, best first; `entities` is what a
    classifier of tokens found."""

    index: int
    label: str | UnsetType = UNSET
    scores: list[ScoredLabel] | UnsetType = UNSET
    entities: list[FoundEntity] | UnsetType = UNSET


class ClassificationList(Struct, frozen=True):
    """The answer of `POST /v1/classify`."""

    id: str
    created: int
    model: str
    data: list[Classification]
    usage: EncodingUsage
    object: Literal["list"] = "list"
