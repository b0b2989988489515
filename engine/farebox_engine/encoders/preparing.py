"""Checking and tokenising requests to an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from farebox_engine.encoders.job import Output
from farebox_engine.encoders.labels import entities, label_scores
from farebox_engine.encoders.loader import LoadedEncoder
from farebox_engine.encoders.models.config import Task
from farebox_engine.encoders.outputs import (
    Classifications,
    Embeddings,
    EncoderUsage,
    RankedDocument,
    Ranking,
    TokenLabels,
)
from farebox_engine.encoders.tokenizer import Text, Tokens
from farebox_engine.errors import RequestError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class EncoderRequest(Generic[Result]):
    """Tokenised inputs, and what is to become of the model's outputs for them."""

    inputs: Sequence[Tokens]
    finish: Callable[[Sequence[Output], EncoderUsage], Result]

    @property
    def tokens(self) -> int:
        """How many tokens will be computed."""
        return sum(map(len, self.inputs))


class Preparing:
    """Makes requests for one encoder. Tokenising takes a while: not for an event loop."""

    def __init__(self, loaded: LoadedEncoder) -> None:
        self._loaded = loaded
        self._tokenizer = loaded.tokenizer
        self._dimensions = 0 if loaded.pooler is None else loaded.pooler.dimensions

    def embedding(
        self,
        inputs: Sequence[Text],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> EncoderRequest[Embeddings]:
        """Vectors for ``inputs``.

        ``prompt`` names one of the model's prompts; without it, the model's default. ``dimensions`` keeps
        the first of each vector and scales it to length 1, for models trained so (Kusupati et al. 2022,
        arXiv 2205.13147). ``truncate`` cuts inputs that are too long.

        Raises:
            RequestError: the request does not fit this model.
        """
        self._require(Task.EMBED, "embed")
        if dimensions is not None and not 1 <= dimensions <= self._dimensions:
            raise RequestError(
                f"dimensions is {dimensions}; this model's vectors have {self._dimensions}.", "dimensions"
            )
        tokens = self._tokenizer.encode(inputs, prompt=self._prompt(prompt), truncate=truncate)

        def finish(outputs: Sequence[Output], usage: EncoderUsage) -> Embeddings:
            vectors = np.stack(outputs)
            if dimensions is not None:
                vectors = vectors[:, :dimensions]
                vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
            return Embeddings(vectors, usage)

        return EncoderRequest(tokens, finish)

    def classification(
        self, inputs: Sequence[Text], *, truncate: bool = False
    ) -> EncoderRequest[Classifications]:
        """Every label's score for each of ``inputs``; raises `RequestError`."""
        self._require(Task.CLASSIFY, "classify texts")
        tokens = self._tokenizer.encode(inputs, truncate=truncate)
        labels, problem = self._loaded.config.labels, self._loaded.config.problem

        def finish(outputs: Sequence[Output], usage: EncoderUsage) -> Classifications:
            return Classifications([label_scores(logits, labels, problem) for logits in outputs], usage)

        return EncoderRequest(tokens, finish)

    def token_labels(
        self, texts: Sequence[str], *, merged: bool = True, truncate: bool = False
    ) -> EncoderRequest[TokenLabels]:
        """Labelled stretches of each of ``texts``, or with ``merged`` off its labelled tokens.

        Raises:
            RequestError: the request does not fit this model.
        """
        self._require(Task.LABEL_TOKENS, "label tokens")
        tokens = self._tokenizer.encode(texts, truncate=truncate, offsets=True)
        labels = self._loaded.config.labels

        def finish(outputs: Sequence[Output], usage: EncoderUsage) -> TokenLabels:
            found = zip(outputs, tokens, texts, strict=True)
            return TokenLabels(
                [entities(logits, labels, each.offsets, text, merged=merged) for logits, each, text in found],
                usage,
            )

        return EncoderRequest(tokens, finish)

    def ranking(
        self, query: str, documents: Sequence[str], *, truncate: bool = False
    ) -> EncoderRequest[Ranking]:
        """How relevant each of ``documents`` is to ``query``; raises `RequestError`."""
        if not reranks(self._loaded):
            raise RequestError("This model does not rerank; use a cross-encoder with one label.", "model")
        tokens = self._tokenizer.encode_pairs(query, documents, truncate=truncate)
        activation = self._loaded.settings.score_activation

        def finish(outputs: Sequence[Output], usage: EncoderUsage) -> Ranking:
            scores = activation(torch.from_numpy(np.concatenate(outputs))).tolist()
            ranked = [RankedDocument(index, score) for index, score in enumerate(scores)]
            return Ranking(sorted(ranked, key=lambda document: -document.score), usage)

        return EncoderRequest(tokens, finish)

    def _require(self, task: Task, what: str) -> None:
        if self._loaded.task is not task:
            raise RequestError(f"This model does not {what}; its task is {self._loaded.task}.", "model")

    def _prompt(self, name: str | None) -> str:
        name = self._loaded.settings.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self._loaded.settings.prompts:
            known = ", ".join(sorted(self._loaded.settings.prompts)) or "none"
            raise RequestError(f"This model has no prompt {name!r}; it has: {known}.", "prompt")
        return self._loaded.settings.prompts[name]


def reranks(loaded: LoadedEncoder) -> bool:
    """Whether an encoder scores pairs of texts: a classifier with one label."""
    return loaded.task is Task.CLASSIFY and len(loaded.config.labels) == 1
