"""An encoder in this process, what it is asked for, and what it finds: vectors, labels, scores.

As with `gateway.models.generation`, the rest of the platform imports the engine's types from here.
"""

import asyncio

from farebox_engine.encoders import (
    Classifications,
    Embeddings,
    EncoderEngine,
    EncoderRequest,
    EncoderStats,
    EncoderUsage,
    Ranking,
    Task,
    TokenLabels,
)
from farebox_engine.encoders.preparing import Preparing, Result
from farebox_engine.encoders.tokenizer import Text

__all__ = [
    "Classifications",
    "Embeddings",
    "EncoderBackend",
    "EncoderRequest",
    "EncoderUsage",
    "Ranking",
    "Task",
    "Text",
    "TokenLabels",
]

_ENDPOINTS = {Task.EMBED: "/v1/embeddings", Task.CLASSIFY: "/v1/classify", Task.LABEL_TOKENS: "/v1/classify"}


class EncoderBackend:
    """A loaded encoder, with an engine thread of its own."""

    def __init__(self, engine: EncoderEngine) -> None:
        self._engine = engine
        self.model_hash = engine.model_hash
        self.context_length = engine.max_length

    @property
    def endpoint(self) -> str:
        """Where this model is called."""
        return "/v1/rerank" if self._engine.reranks else _ENDPOINTS[self._engine.task]

    @property
    def task(self) -> Task:
        return self._engine.task

    @property
    def prepare(self) -> Preparing:
        """Checks and tokenises requests; blocks."""
        return self._engine.prepare

    def start(self) -> None:
        """Begin to serve, on the running event loop."""
        self._engine.start(asyncio.get_running_loop())

    async def compute(self, request: EncoderRequest[Result], tenant: str) -> Result:
        """See `EncoderEngine.compute`."""
        return await self._engine.compute(request, tenant=tenant)

    def stats(self) -> EncoderStats:
        return self._engine.stats()

    async def close(self) -> None:
        # In a thread: the engine's own thread has to finish its step first.
        await asyncio.to_thread(self._engine.close)
