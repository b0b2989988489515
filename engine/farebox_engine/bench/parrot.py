"""A random model whose text repeats itself, so that what comes next can often be guessed from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch

from farebox_engine.bench.decoding.shapes import SHAPES, build_model
from farebox_engine.models.decoder import Decoder
from farebox_engine.models.loader import LoadedModel

# SmolLM2-135M's, but the head is no copy of the embedding: it names the successor.
SHAPE: dict[str, Any] = SHAPES["smollm-135m"] | {
    "tie_word_embeddings": False,
    "max_position_embeddings": 512,
}


def build_parrot(*, cycle: int, clarity: float, shape: Mapping[str, object] = SHAPE) -> LoadedModel:
    """A model that mostly goes through its vocabulary in circles of `cycle` tokens.

    The layers' random contributions now and then win over the successor's lead, which is `clarity`
    times the width.
    """
    loaded = build_model(shape, torch.device("cpu"), torch.float32)
    model = cast(Decoder, loaded.model)
    with torch.no_grad():
        embedding = model.embed_tokens.weight.normal_(generator=torch.Generator().manual_seed(1))
        model.lm_head.weight[_successors(len(embedding), cycle)] = clarity * embedding
    return loaded


def _successors(vocab_size: int, cycle: int) -> torch.Tensor:
    """What follows each token, int64 [vocab_size]; the last circle may be a smaller one."""
    tokens = torch.arange(vocab_size)
    first = tokens - tokens % cycle
    return first + (tokens - first + 1) % (vocab_size - first).clamp(max=cycle)
