"""What `transformers` computes, one input at a time, without padding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from farebox_engine.encoders.tokenizer import Tokens

Vectors = NDArray[np.float32]


class Reference:
    """A checkpoint in `transformers`; `head` is the end of the class's name."""

    def __init__(self, path: Path, family: str, head: str = "Model") -> None:
        self._model: Any = getattr(transformers, f"{family}{head}").from_pretrained(path, dtype=torch.float32)
        self._model.train(False)
        self._has_types = family == "Bert"

    @torch.inference_mode()
    def outputs(self, tokens: Tokens) -> Vectors:
        """Hidden states [length, size] or logits, without the batch's dimension."""
        inputs: dict[str, torch.Tensor] = {"input_ids": torch.from_numpy(tokens.ids)[None]}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if self._has_types:
            inputs["token_type_ids"] = torch.from_numpy(tokens.types)[None]
        found = self._model(**inputs)
        values: torch.Tensor = found.logits if "logits" in found else found.last_hidden_state
        array: Vectors = values[0].numpy()
        return array


def random_tokens(seed: int, lengths: Sequence[int], *, types: bool) -> list[Tokens]:
    """Inputs of ordinary tokens; with `types`, the second half is the second part of a pair."""
    generator = np.random.default_rng(seed)
    return [
        Tokens(
            generator.integers(4, 150, length),
            (np.arange(length) >= length / 2).astype(np.int64) * types,
        )
        for length in lengths
    ]


def relative_error(found: Vectors, expected: Vectors) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
