"""The default backend: the engine in this very process."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from farebox.billing.models import ModelOffer
from farebox.core.settings import Settings
from farebox.gateway.models.cache_memory import CacheMemory
from farebox.gateway.models.catalog import Backend, BackendFactory
from farebox.gateway.models.checkpoints import kind_of
from farebox.gateway.models.encoder import EncoderBackend
from farebox.gateway.models.generation import Generation
from farebox_engine.config import EngineConfig
from farebox_engine.encoders import EncoderEngine
from farebox_engine.engine import Engine
from farebox_engine.errors import CacheShortage, LoadError
from farebox_engine.grammar.compiler import Grammar, GrammarSpec
from farebox_engine.lora.adapter import AdapterInfo
from farebox_engine.outputs import EngineStats
from farebox_engine.params import GenerationRequest
from farebox_engine.quantization.prepare import check_quantization
from farebox_engine.tokenization.answer_format import AnswerFormat

log = structlog.get_logger(__name__)

_loads = itertools.count()


class LocalBackend:
    """A model that writes text, with an engine thread of its own in this process; or an adapter on one."""

    def __init__(
        self, engine: Engine, adapter: AdapterInfo | None = None, memory: CacheMemory | None = None
    ) -> None:
        """`memory` gets the engine's part of it back when a model, not an adapter, is closed."""
        self._engine = engine
        self._memory = memory
        self._adapter = adapter
        self.context_length = engine.context_length
        self.model_hash = engine.model_hash if adapter is None else adapter.hash
        self.defaults = engine.defaults
        # Adapters are for decoders, all of them and no others.
        self.continues_text = engine.takes_adapters
        self.chats = engine.has_chat_template

    @property
    def answer_format(self) -> AnswerFormat:
        return self._engine.answer_format

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        return self._engine.opens_reasoning(prompt)

    def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        tools: Sequence[object] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> list[int]:
        return self._engine.render_chat(messages, tools=tools, variables=variables)

    def encode(self, text: str) -> list[int]:
        return self._engine.encode(text)

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        return self._engine.spellings(word)

    def compile_grammar(self, spec: GrammarSpec) -> Grammar:
        return self._engine.compile_grammar(spec)

    def with_adapter(self, name: str, folder: str) -> "LocalBackend":
        if not self._engine.takes_adapters:
            raise LoadError(f"{name} is for an encoder-decoder, which takes no adapters.")
        # A name of its own for each load: what is retired must not take its successor along.
        return LocalBackend(self._engine, self._engine.load_adapter(f"{name}#{next(_loads)}", folder))

    def start(self) -> None:
        if self._adapter is None:
            self._engine.start(asyncio.get_running_loop())

    def generate(self, request: GenerationRequest) -> Generation:
        if self._adapter is not None:
            request = replace(request, adapter=self._adapter.name)
        return self._engine.generate(request)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    async def close(self) -> None:
        if self._adapter is not None:
            self._engine.unload_adapter(self._adapter.name)
            return
        # In a thread: the engine's own thread has to finish its step first.
        await asyncio.to_thread(self._engine.close)
        if self._memory is not None:
            self._memory.give_back(self._engine)


def local_backends(settings: Settings) -> BackendFactory:
    """Loads offered models with the device, threads, precision and bounds that the settings name.

    On a CPU, their caches share one memory.
    """
    config = _engine_config(settings)
    return partial(_load, config, CacheMemory(settings.engine_cache_bytes))


def quantization_refusal(settings: Settings) -> str | None:
    """Why decoders cannot be loaded in the precision that the settings name, if they cannot."""
    config = _engine_config(settings)
    try:
        check_quantization(config.quantization, config.torch_device())
    except LoadError as error:
        return str(error)
    return None


def _engine_config(settings: Settings) -> EngineConfig:
    return EngineConfig(
        device=None if settings.engine_device == "auto" else settings.engine_device,
        threads=settings.engine_threads,
        speculative_tokens=settings.engine_speculative_tokens,
        step_timeout=settings.engine_step_seconds,
        quantization=None if settings.engine_quantization == "none" else settings.engine_quantization,
    )


def _load(config: EngineConfig, memory: CacheMemory, offer: ModelOffer) -> Backend:
    kind = kind_of(Path(offer.path))
    if config.quantization is not None and kind != "decoder":
        log.warning(
            "model.keeps_precision",
            model=offer.id,
            kind=kind,
            reason=f"FAREBOX_ENGINE_QUANTIZATION={config.quantization} is for decoders only",
        )
    match kind:
        case "encoder":
            return EncoderBackend(EncoderEngine.load(offer.path, config))
        case "decoder" | "encoder-decoder":
            return _load_generator(replace(config, cache_room=memory.room()), memory, offer)


def _load_generator(config: EngineConfig, memory: CacheMemory, offer: ModelOffer) -> LocalBackend:
    try:
        engine = Engine.load(offer.path, config)
    except CacheShortage as shortage:
        raise memory.refusal(shortage) from shortage
    # A GPU tells what is free itself.
    if config.torch_device().type == "cpu":
        memory.take(engine)
    return LocalBackend(engine, memory=memory)
