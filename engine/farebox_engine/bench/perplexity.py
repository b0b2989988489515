"""What int8 costs in accuracy: perplexity of the demo model in fp32 and in int8, on the same text."""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from farebox_engine import demo
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.layers.packed import pack_linears
from farebox_engine.loader import LoadedModel, load_model
from farebox_engine.training.demo_data.stories import tale

_TALES, _UNSEEN_SEED = 60, 7
_WINDOW = 256


def main(arguments: Sequence[str]) -> int:
    """Print both perplexities and how much int8 raises it; return 0."""
    parser = argparse.ArgumentParser(prog="python -m farebox_engine.bench perplexity", description=__doc__)
    parser.add_argument("--model", type=Path, default=demo.path(), metavar="DIR")
    parser.add_argument("--text", type=Path, metavar="FILE", help="default: tales in the training's manner")
    options = parser.parse_args(arguments)
    rng = random.Random(_UNSEEN_SEED)  # noqa: S311 (variety, not secrecy)
    text = (
        options.text.read_text("utf-8") if options.text else "\n".join(tale(rng).text for _ in range(_TALES))
    )
    loaded = load_model(options.model, device=torch.device("cpu"), dtype=torch.float32)
    exact = perplexity(loaded, text)
    pack_linears(cast(nn.Module, loaded.model), "int8")
    rounded = perplexity(loaded, text)
    sys.stdout.write(f"fp32 {exact:.4f}  int8 {rounded:.4f}  ({100 * (rounded / exact - 1):+.2f} %)\n")
    return 0


@torch.inference_mode()
def perplexity(loaded: LoadedModel, text: str) -> float:
    """Per token of the model's vocabulary, over `text` in pieces of 256 tokens, each without context.

    Raises:
        ValueError: the text has fewer than 257 tokens.
    """
    tokens = torch.tensor(loaded.tokenizer.encode(text))
    pieces = (len(tokens) - 1) // _WINDOW
    if pieces == 0:
        raise ValueError(f"The text has {len(tokens)} tokens; at least {_WINDOW + 1} are needed.")
    positions = torch.arange(_WINDOW)
    total = 0.0
    for start in range(0, pieces * _WINDOW, _WINDOW):
        piece, following = tokens[start : start + _WINDOW], tokens[start + 1 : start + _WINDOW + 1]
        logits = loaded.model.logits(loaded.model(piece, positions, CausalAttention(_WINDOW)))
        total += float(functional.cross_entropy(logits, following, reduction="sum"))
    return math.exp(total / (pieces * _WINDOW))
