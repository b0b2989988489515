"""One encoder, one engine, one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch

from farebox_engine.encoders.config import Task
from farebox_engine.encoders.core import EncoderCore, Outcome
from farebox_engine.encoders.job import Job, Output
from farebox_engine.encoders.labels import entities, label_scores
from farebox_engine.encoders.loading import LoadedEncoder, load_encoder
from farebox_engine.encoders.outputs import (
    Classifications,
    Embeddings,
    EncoderStats,
    EncoderUsage,
    RankedDocument,
    Ranking,
    TokenLabels,
)
from farebox_engine.encoders.tokenizer import Text, Tokens
from farebox_engine.engine_thread import EngineThread
from farebox_engine.errors import ClosedError, ComputeError, RequestError
from farebox_engine.mailbox import Mail
from farebox_engine.options import EngineConfig

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


class EncoderEngine:
    """Serves one encoder: takes requests on an event loop, computes them in a thread of its own.

    The ``prepare_`` methods check and tokenise, which takes a while: call them in a thread. `compute`
    then runs what they made. `embed`, `classify`, `label_tokens` and `rerank` do both.
    """

    def __init__(self, loaded: LoadedEncoder, config: EngineConfig) -> None:
        self._loaded = loaded
        self._tokenizer = loaded.tokenizer
        self._work = _Work(EncoderCore(loaded, config.tokens_per_step(loaded.device)))
        self._thread = EngineThread(self._work, config.cpu_threads())

    @classmethod
    def load(cls, path: str | Path, config: EngineConfig | None = None) -> EncoderEngine:
        """Load the Hugging Face folder at ``path``; blocks for as long as that takes.

        Of the config, what is about the cache and about generation does not apply.

        Raises:
            LoadError: the checkpoint or the settings cannot be used.
        """
        config = config or EngineConfig()
        device = config.torch_device()
        loaded = load_encoder(
            path, device=device, dtype=config.torch_dtype(device), max_length=config.context_length
        )
        return cls(loaded, config)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the engine's thread; results are delivered on ``loop``."""
        self._thread.start(loop)

    def close(self) -> None:
        """End what is under way with `ClosedError` and wait for the thread; further calls do nothing."""
        self._thread.close()

    def stats(self) -> EncoderStats:
        """What the engine is doing now."""
        return self._work.core.stats()

    @property
    def task(self) -> Task:
        """What the model is for."""
        return self._loaded.task

    @property
    def reranks(self) -> bool:
        """Whether the model scores pairs of texts: a classifier with one label."""
        return self.task is Task.CLASSIFY and len(self.labels) == 1

    @property
    def model_hash(self) -> str:
        return self._loaded.model_hash

    @property
    def max_length(self) -> int:
        """The most tokens an input may have, the special ones counted."""
        return self._tokenizer.max_length

    @property
    def dimensions(self) -> int:
        """The size of an embedding; 0 for other tasks."""
        return 0 if self._loaded.pooler is None else self._loaded.pooler.dimensions

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier, in the order of its logits."""
        return self._loaded.config.labels

    @property
    def prompts(self) -> Mapping[str, str]:
        """Texts that may go before an input, by the names the model's authors gave them."""
        return self._loaded.settings.prompts

    @property
    def similarity(self) -> str:
        """How embeddings are to be compared: "cosine", "dot", "euclidean" or "manhattan"."""
        return self._loaded.settings.similarity

    def prepare_embedding(
        self,
        inputs: Sequence[Text],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
    ) -> EncoderRequest[Embeddings]:
        """Vectors for ``inputs``.

        ``prompt`` is the name of one of `prompts`; without it, the model's default. ``dimensions`` keeps
        the first of each vector and scales it to length 1, for models trained so (Kusupati et al. 2022,
        arXiv 2205.13147). ``truncate`` cuts inputs that are too long.

        Raises:
            RequestError: the request does not fit this model.
        """
        self._require(Task.EMBED, "embed")
        if dimensions is not None and not 1 <= dimensions <= self.dimensions:
            raise RequestError(
                f"dimensions is {dimensions}; this model's vectors have {self.dimensions}.", "dimensions"
            )
        tokens = self._tokenizer.encode(inputs, prompt=self._prompt(prompt), truncate=truncate)

        def finish(outputs: Sequence[Output], usage: EncoderUsage) -> Embeddings:
            vectors = np.stack(outputs)
            if dimensions is not None:
                vectors = vectors[:, :dimensions]
                vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
            return Embeddings(vectors, usage)

        return EncoderRequest(tokens, finish)

    def prepare_classification(
        self, inputs: Sequence[Text], *, truncate: bool = False
    ) -> EncoderRequest[Classifications]:
        """Every label's score for each of ``inputs``; raises `RequestError`."""
        self._require(Task.CLASSIFY, "classify texts")
        tokens = self._tokenizer.encode(inputs, truncate=truncate)
        labels, problem = self.labels, self._loaded.config.problem

        def finish(outputs: Sequence[Output], usage: EncoderUsage) -> Classifications:
            return Classifications([label_scores(logits, labels, problem) for logits in outputs], usage)

        return EncoderRequest(tokens, finish)

    def prepare_token_labels(
        self, texts: Sequence[str], *, merged: bool = True, truncate: bool = False
    ) -> EncoderRequest[TokenLabels]:
        """Labelled stretches of each of ``texts``, or with ``merged`` off its labelled tokens.

        Raises:
            RequestError: the request does not fit this model.
        """
        self._require(Task.LABEL_TOKENS, "label tokens")
        tokens = self._tokenizer.encode(texts, truncate=truncate, offsets=True)
        labels = self.labels

        def finish(outputs: Sequence[Output], usage: EncoderUsage) -> TokenLabels:
            found = zip(outputs, tokens, texts, strict=True)
            return TokenLabels(
                [entities(logits, labels, each.offsets, text, merged=merged) for logits, each, text in found],
                usage,
            )

        return EncoderRequest(tokens, finish)

    def prepare_rerank(
        self, query: str, documents: Sequence[str], *, truncate: bool = False
    ) -> EncoderRequest[Ranking]:
        """How relevant each of ``documents`` is to ``query``; raises `RequestError`."""
        if not self.reranks:
            raise RequestError("This model does not rerank; use a cross-encoder with one label.", "model")
        tokens = self._tokenizer.encode([(query, document) for document in documents], truncate=truncate)
        activation = self._loaded.settings.score_activation

        def finish(outputs: Sequence[Output], usage: EncoderUsage) -> Ranking:
            scores = activation(torch.from_numpy(np.concatenate(outputs))).tolist()
            ranked = [RankedDocument(index, score) for index, score in enumerate(scores)]
            return Ranking(sorted(ranked, key=lambda document: -document.score), usage)

        return EncoderRequest(tokens, finish)

    async def compute(self, request: EncoderRequest[Result], *, tenant: str = "") -> Result:
        """Run a request; to be called on the event loop given to `start`.

        Cancelling it takes the request out before the next step. Tenants take turns.

        Raises:
            ComputeError: the model failed on this request.
            ClosedError: the engine is not running.
        """
        job = Job(request.inputs, tenant, submitted_at=time.perf_counter())
        usage = await self._usage(job)
        return await asyncio.to_thread(request.finish, job.outputs, usage)

    async def embed(
        self,
        inputs: Sequence[Text],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
        tenant: str = "",
    ) -> Embeddings:
        """See `prepare_embedding` and `compute`."""
        request = await asyncio.to_thread(
            self.prepare_embedding, inputs, prompt=prompt, dimensions=dimensions, truncate=truncate
        )
        return await self.compute(request, tenant=tenant)

    async def classify(
        self, inputs: Sequence[Text], *, truncate: bool = False, tenant: str = ""
    ) -> Classifications:
        """See `prepare_classification` and `compute`."""
        request = await asyncio.to_thread(self.prepare_classification, inputs, truncate=truncate)
        return await self.compute(request, tenant=tenant)

    async def label_tokens(
        self, texts: Sequence[str], *, merged: bool = True, truncate: bool = False, tenant: str = ""
    ) -> TokenLabels:
        """See `prepare_token_labels` and `compute`."""
        request = await asyncio.to_thread(self.prepare_token_labels, texts, merged=merged, truncate=truncate)
        return await self.compute(request, tenant=tenant)

    async def rerank(
        self, query: str, documents: Sequence[str], *, truncate: bool = False, tenant: str = ""
    ) -> Ranking:
        """See `prepare_rerank` and `compute`."""
        request = await asyncio.to_thread(self.prepare_rerank, query, documents, truncate=truncate)
        return await self.compute(request, tenant=tenant)

    async def _usage(self, job: Job) -> EncoderUsage:
        ended: asyncio.Future[EncoderUsage] = asyncio.get_running_loop().create_future()
        self._thread.submit(job)
        # Deliveries run on this very loop, so that none can come before this line.
        self._work.waiting[job] = ended
        try:
            return await ended
        except asyncio.CancelledError:
            self._thread.cancel(job)
            raise
        finally:
            self._work.waiting.pop(job, None)

    def _require(self, task: Task, what: str) -> None:
        if self.task is not task:
            raise RequestError(f"This model does not {what}; its task is {self.task}.", "model")

    def _prompt(self, name: str | None) -> str:
        name = self._loaded.settings.default_prompt if name is None else name
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "none"
            raise RequestError(f"This model has no prompt {name!r}; it has: {known}.", "prompt")
        return self.prompts[name]


class _Work:
    """What the engine's thread does with a core, and who hears of it."""

    def __init__(self, core: EncoderCore) -> None:
        self.core = core
        self.waiting: dict[Job, asyncio.Future[EncoderUsage]] = {}

    def idle(self) -> bool:
        return self.core.idle

    def turn(self, mail: Mail[Job]) -> list[Outcome]:
        for job in mail.submitted:
            self.core.add(job)
        for job in mail.cancelled:
            self.core.cancel(job)
        return [] if self.core.idle else self.core.step()

    def deliver(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            ended = self.waiting.get(outcome.job)
            # Its reader may have gone in the meantime.
            if ended is None or ended.done():
                continue
            if outcome.usage is not None:
                ended.set_result(outcome.usage)
            else:
                ended.set_exception(ComputeError(outcome.error))

    def end(self) -> None:
        """Whatever ends the engine's thread, nobody waits for it for ever."""
        for ended in self.waiting.values():
            if not ended.done():
                ended.set_exception(ClosedError("The engine was closed."))
