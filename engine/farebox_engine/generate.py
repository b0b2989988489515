"""A quick look at a model: one prompt in, its continuation (or translation) out, as it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from farebox_engine.checkpoint.json_file import read_optional_json
from farebox_engine.config import EngineConfig
from farebox_engine.decoders.engine import Engine
from farebox_engine.params import GenerationRequest, SamplingParams
from farebox_engine.seq2seq.engine import Seq2SeqEngine
from farebox_engine.seq2seq.loader import is_seq2seq


@dataclass(frozen=True, slots=True)
class Look:
    """What to generate; None leaves a parameter to the model's ``generation_config.json``."""

    model: Path
    prompt: str
    chat: bool
    max_tokens: int
    temperature: float | None = None
    seed: int | None = None
    quantization: str | None = None


def generate(look: Look, output: TextIO) -> None:
    """Write the answer to ``look.prompt`` to ``output``, chunk by chunk.

    Raises:
        EngineError: the model cannot be loaded or the prompt does not fit it.
    """
    engine = _load(look.model, EngineConfig(quantization=look.quantization))
    asyncio.run(_stream(engine, look, output))


def _load(model: Path, config: EngineConfig) -> Engine | Seq2SeqEngine:
    description = read_optional_json(model / "config.json")
    return Seq2SeqEngine.load(model, config) if is_seq2seq(description) else Engine.load(model, config)


async def _stream(engine: Engine | Seq2SeqEngine, look: Look, output: TextIO) -> None:
    messages = [{"role": "user", "content": look.prompt}]
    prompt = engine.render_chat(messages) if look.chat else engine.encode(look.prompt)
    params = _params(look, room=engine.context_length - len(prompt))
    engine.start(asyncio.get_running_loop())
    try:
        async for chunk in engine.generate(GenerationRequest("look", prompt, params)):
            output.write(chunk.text)
            output.flush()
        output.write("\n")
    finally:
        engine.close()


def _params(look: Look, room: int) -> SamplingParams:
    defaults = read_optional_json(look.model / "generation_config.json")
    temperature = look.temperature
    if temperature is None:
        temperature = _number(defaults, "temperature", 1.0) if defaults.get("do_sample") else 0.0
    return SamplingParams(
        # A prompt that fills the context is refused by the engine, with both numbers.
        max_tokens=max(1, min(look.max_tokens, room)),
        temperature=temperature,
        top_p=_number(defaults, "top_p", 1.0),
        top_k=int(_number(defaults, "top_k", 0)),
        repetition_penalty=_number(defaults, "repetition_penalty", 1.0),
        seed=look.seed,
    )


def _number(values: Mapping[str, object], name: str, default: float) -> float:
    value = values.get(name)
    return default if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
