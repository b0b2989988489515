"""One encoder, one engine, one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from farebox_engine.config import EngineConfig
from farebox_engine.encoders.core import EncoderCore, EndedJob
from farebox_engine.encoders.job import Job
from farebox_engine.encoders.loader import LoadedEncoder, load_encoder
from farebox_engine.encoders.models.config import Task
from farebox_engine.encoders.outputs import (
    Classifications,
    Embeddings,
    EncoderStats,
    EncoderUsage,
    Ranking,
    TokenLabels,
)
from farebox_engine.encoders.preparing import EncoderRequest, Preparing, Result, reranks
from farebox_engine.encoders.tokenizer import Text
from farebox_engine.errors import ClosedError, ComputeError
from farebox_engine.serving.supervisor import Supervisor


class EncoderEngine:
    """Serves one encoder: takes requests on an event loop, computes them in a thread of its own.

    When a step hangs, another thread takes over.

    The methods of `prepare` check and tokenise, which takes a while: call them in a thread. `compute`
    then runs what they made. `embed`, `classify`, `label_tokens` and `rerank` do both.
    """

    def __init__(self, loaded: LoadedEncoder, config: EngineConfig) -> None:
        self._loaded = loaded
        self.prepare = Preparing(loaded)
        self._core = EncoderCore(loaded, config.tokens_per_step(loaded.device))
        self._waiting: dict[Job, asyncio.Future[EncoderUsage]] = {}
        self._supervisor: Supervisor[Job, EndedJob] = Supervisor(
            self._core, config, deliver=self._deliver, end_all=self._end_all
        )

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
        self._supervisor.start(loop)

    def close(self) -> None:
        """End what is under way with `ClosedError` and wait for the thread; further calls do nothing.

        A step that hangs is waited for no longer than `EngineConfig.step_timeout`.
        """
        self._supervisor.close()

    def stats(self) -> EncoderStats:
        """What the engine is doing now."""
        return replace(self._core.stats(), restarts=self._supervisor.restarts, failed=self._supervisor.failed)

    @property
    def task(self) -> Task:
        """What the model is for."""
        return self._loaded.task

    @property
    def reranks(self) -> bool:
        """Whether the model scores pairs of texts: a classifier with one label."""
        return reranks(self._loaded)

    @property
    def model_hash(self) -> str:
        return self._loaded.model_hash

    @property
    def max_length(self) -> int:
        """The most tokens an input may have, the special ones counted."""
        return self._loaded.tokenizer.max_length

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

    async def compute(self, request: EncoderRequest[Result], *, tenant: str = "") -> Result:
        """Run a request; to be called on the event loop given to `start`.

        Cancelling it takes the request out before the next step. Tenants share the engine by tokens.

        Raises:
            ComputeError: the model failed on this request.
            ClosedError: the engine is not running.
        """
        job = Job(request.inputs, tenant, submitted_at=time.perf_counter())
        try:
            usage = await self._usage(job)
            return await asyncio.to_thread(request.finish, job.outputs, usage)
        except asyncio.CancelledError:
            self._supervisor.cancel(job)
            raise

    async def embed(
        self,
        inputs: Sequence[Text],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        truncate: bool = False,
        tenant: str = "",
    ) -> Embeddings:
        """See `Preparing.embedding` and `compute`."""
        request = await asyncio.to_thread(
            self.prepare.embedding, inputs, prompt=prompt, dimensions=dimensions, truncate=truncate
        )
        return await self.compute(request, tenant=tenant)

    async def classify(
        self, inputs: Sequence[Text], *, truncate: bool = False, tenant: str = ""
    ) -> Classifications:
        """See `Preparing.classification` and `compute`."""
        request = await asyncio.to_thread(self.prepare.classification, inputs, truncate=truncate)
        return await self.compute(request, tenant=tenant)

    async def label_tokens(
        self, texts: Sequence[str], *, merged: bool = True, truncate: bool = False, tenant: str = ""
    ) -> TokenLabels:
        """See `Preparing.token_labels` and `compute`."""
        request = await asyncio.to_thread(self.prepare.token_labels, texts, merged=merged, truncate=truncate)
        return await self.compute(request, tenant=tenant)

    async def rerank(
        self, query: str, documents: Sequence[str], *, truncate: bool = False, tenant: str = ""
    ) -> Ranking:
        """See `Preparing.ranking` and `compute`."""
        request = await asyncio.to_thread(self.prepare.ranking, query, documents, truncate=truncate)
        return await self.compute(request, tenant=tenant)

    async def _usage(self, job: Job) -> EncoderUsage:
        ended: asyncio.Future[EncoderUsage] = asyncio.get_running_loop().create_future()
        self._supervisor.submit(job)
        # Deliveries run on this very loop, so that none can come before this line.
        self._waiting[job] = ended
        try:
            return await ended
        finally:
            self._waiting.pop(job, None)

    def _deliver(self, ended_jobs: list[EndedJob]) -> None:
        for each in ended_jobs:
            ended = self._waiting.get(each.job)
            # Its reader may have gone in the meantime.
            if ended is None or ended.done():
                continue
            if each.usage is not None:
                ended.set_result(each.usage)
            else:
                ended.set_exception(ComputeError(each.error))

    def _end_all(self, error: str) -> None:
        """Whatever ends the computing, nobody waits for it for ever."""
        for ended in self._waiting.values():
            if not ended.done():
                ended.set_exception(ClosedError(error))
