"""Farebox's inference engine: Transformers from a Hugging Face folder, served and measured.

engine = Engine.load("path/to/checkpoint")
engine.start(asyncio.get_running_loop())
prompt = await asyncio.to_thread(engine.render_chat, [{"role": "user", "content": "Hello"}])
async for chunk in engine.generate(GenerationRequest("request-1", prompt)):
    ...
engine.close()
"""

from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from farebox_engine.errors import (
    ClosedError,
    ComputeError,
    EngineError,
    LoadError,
    RequestError,
    TemplateError,
)
from farebox_engine.grammar.compiler import Grammar, GrammarSpec
from farebox_engine.lora.adapter import AdapterInfo
from farebox_engine.models.loader import load_model
from farebox_engine.outputs import (
    Chunk,
    EngineStats,
    FinishReason,
    PromptDetails,
    TokenAlternative,
    TokenLogprob,
    Usage,
)
from farebox_engine.params import GenerationRequest, SamplingParams
from farebox_engine.serving.generation import Generation

__all__ = [
    "AdapterInfo",
    "Chunk",
    "ClosedError",
    "ComputeError",
    "Engine",
    "EngineConfig",
    "EngineError",
    "EngineStats",
    "FinishReason",
    "Generation",
    "GenerationRequest",
    "Grammar",
    "GrammarSpec",
    "LoadError",
    "PromptDetails",
    "RequestError",
    "SamplingParams",
    "TemplateError",
    "TokenAlternative",
    "TokenLogprob",
    "Usage",
    "load_model",
]
