"""The default backend: the engine in this very process."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

from farebox.billing.models import ModelOffer
from farebox.core.settings import Settings
from farebox.gateway.backend import Generation
from farebox.gateway.catalog import BackendFactory
from farebox_engine.answer_format import AnswerFormat
from farebox_engine.engine import Engine
from farebox_engine.grammar import Grammar, GrammarSpec
from farebox_engine.options import EngineConfig
from farebox_engine.outputs import EngineStats
from farebox_engine.params import GenerationRequest


class LocalBackend:
    """A model loaded into this process, with an engine thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.context_length = engine.context_length
        self.model_hash = engine.model_hash

    @property
    def answer_format(self) -> AnswerFormat:
        return self._engine.answer_format

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        return self._engine.opens_reasoning(prompt)

    def render_chat(
        self, messages: Sequence[Mapping[str, object]], tools: Sequence[object] | None = None
    ) -> list[int]:
        return self._engine.render_chat(messages, tools=tools)

    def encode(self, text: str) -> list[int]:
        return self._engine.encode(text)

    def compile_grammar(self, spec: GrammarSpec) -> Grammar:
        return self._engine.compile_grammar(spec)

    def start(self) -> None:
        self._engine.start(asyncio.get_running_loop())

    def generate(self, request: GenerationRequest) -> Generation:
        return self._engine.generate(request)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    async def close(self) -> None:
        # In a thread: the engine's own thread has to finish its step first.
        await asyncio.to_thread(self._engine.close)


def local_backends(settings: Settings) -> BackendFactory:
    """Loads offered models with the device and threads that the settings name."""
    config = EngineConfig(
        device=None if settings.engine_device == "auto" else settings.engine_device,
        threads=settings.engine_threads,
    )
    return partial(_load, config)


def _load(config: EngineConfig, offer: ModelOffer) -> LocalBackend:
    return LocalBackend(Engine.load(offer.path, config))
