"""A quick look at a model: one prompt in, its continuation (or translation) out, as it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from farebox_engine.checkpoint.json_file import read_optional_json
from farebox_engine.config import EngineConfig
from farebox_engine.engine import Engine
from farebox_engine.params import GenerationRequest, SamplingParams


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """What to generate; None leaves a parameter to the model's ``generation_config.json``."""

    model: Path
    prompt: str
    chat: bool
    max_tokens: int
    temperature: float | None = None
    seed: int | None = None
    quantization: str | None = None


def generate(options: GenerateOptions, output: TextIO) -> None:
    """Write the answer to ``options.prompt`` to ``output``, chunk by chunk.

    Raises:
        EngineError: the model cannot be loaded or the prompt does not fit it.
    """
    engine = Engine.load(options.model, EngineConfig(quantization=options.quantization))
    asyncio.run(_stream(engine, options, output))


async def _stream(engine: Engine, options: GenerateOptions, output: TextIO) -> None:
    messages = [{"role": "user", "content": options.prompt}]
    prompt = engine.render_chat(messages) if options.chat else engine.encode(options.prompt)
    params = _params(options, room=engine.context_length - len(prompt))
    engine.start(asyncio.get_running_loop())
    try:
        async for chunk in engine.generate(GenerationRequest("generate", prompt, params)):
            output.write(chunk.text)
            output.flush()
        output.write("\n")
    finally:
        engine.close()


def _params(options: GenerateOptions, room: int) -> SamplingParams:
    defaults = read_optional_json(options.model / "generation_config.json")
    temperature = options.temperature
    if temperature is None:
        temperature = _number(defaults, "temperature", 1.0) if defaults.get("do_sample") else 0.0
    return SamplingParams(
        # A prompt that fills the context is refused by the engine, with both numbers.
        max_tokens=max(1, min(options.max_tokens, room)),
        temperature=temperature,
        top_p=_number(defaults, "top_p", 1.0),
        top_k=int(_number(defaults, "top_k", 0)),
        repetition_penalty=_number(defaults, "repetition_penalty", 1.0),
        seed=options.seed,
    )


def _number(values: Mapping[str, object], name: str, default: float) -> float:
    value = values.get(name)
    return default if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
