"""Running requests through an engine, and `transformers` doing the same."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from farebox_engine import Generation, GenerationRequest, SamplingParams
from farebox_engine.engine import Engine
from tests.engine.generating import Answer, collect

_ids = itertools.count()


def translate(engine: Engine, source: Sequence[int], **params: Any) -> Generation:
    """Begin a generation with one beam, ended by the model's end tokens, unless told otherwise."""
    settings = {"temperature": 0.0, "max_tokens": 16, "num_beams": 1} | params
    return engine.generate(GenerationRequest(f"request-{next(_ids)}", source, SamplingParams(**settings)))


async def target(engine: Engine, source: Sequence[int], **params: Any) -> Answer:
    return await collect(translate(engine, source, **params))


async def targets(engine: Engine, sources: Sequence[Sequence[int]], **params: Any) -> list[Answer]:
    """All sources at once."""
    return list(await asyncio.gather(*(collect(translate(engine, source, **params)) for source in sources)))


def expected(model: PreTrainedModel, source: Sequence[int], length: int = 16, **settings: Any) -> list[int]:
    """What `transformers` generates without sampling, the start token left out."""
    ids = torch.tensor([list(source)])
    generate: Any = model.generate
    output = generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        **{"max_new_tokens": length, "num_beams": 1} | settings,
    )
    return list(output[0, 1:].tolist())
