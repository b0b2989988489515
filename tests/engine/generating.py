"""Running requests through an engine and gathering what they bring."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from farebox_engine import Chunk, Engine, FinishReason, Generation, GenerationRequest, SamplingParams, Usage

_ids = itertools.count()


@dataclass(frozen=True)
class Answer:
    """A whole generation."""

    chunks: tuple[Chunk, ...]

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def tokens(self) -> list[int]:
        return [token for chunk in self.chunks for token in chunk.token_ids]

    @property
    def finish_reason(self) -> FinishReason | None:
        return self.chunks[-1].finish_reason

    @property
    def usage(self) -> Usage:
        usage = self.chunks[-1].usage
        assert usage is not None
        return usage


def begin(
    engine: Engine, prompt: Sequence[int], *, salt: bytes = b"", adapter: str | None = None, **params: Any
) -> Generation:
    """Begin a generation; greedy and deaf to the end token unless told otherwise."""
    settings = {"temperature": 0.0, "ignore_eos": True, "max_tokens": 16} | params
    request = GenerationRequest(
        f"request-{next(_ids)}", prompt, SamplingParams(**settings), salt, adapter=adapter
    )
    return engine.generate(request)


async def collect(generation: Generation) -> Answer:
    return Answer(tuple([chunk async for chunk in generation]))


async def answer(engine: Engine, prompt: Sequence[int], *, salt: bytes = b"", **params: Any) -> Answer:
    """A whole generation; see `begin`."""
    return await collect(begin(engine, prompt, salt=salt, **params))


async def answers(engine: Engine, prompts: Sequence[Sequence[int]], **params: Any) -> list[Answer]:
    """All prompts at once."""
    generations = [begin(engine, prompt, **params) for prompt in prompts]
    return list(await asyncio.gather(*map(collect, generations)))


def load_reference(path: Path) -> PreTrainedModel:
    # Its grouped product fails on rows that are not aligned.
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, experts_implementation="eager"
    )
    model.train(False)
    return model


def greedy(model: PreTrainedModel, prompt: Sequence[int], length: int = 16) -> list[int]:
    """What `transformers` generates, end tokens ignored."""
    ids = torch.tensor([list(prompt)])
    generate = cast(Any, model).generate  # its annotations do not fit its own class
    output = generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=length,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return list(output[0, len(prompt) :].tolist())


def random_prompts(seed: int, lengths: Sequence[int], vocab_size: int = 400) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab_size, (length,), generator=generator).tolist() for length in lengths]
