"""A model that misbehaves on demand, around a real one."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from farebox_engine import Engine, EngineConfig, load_model

BAD = 357  # the token at which it misbehaves
POISON = 360  # the token whose hidden state is not a number


class Saboteur(nn.Module):
    """Does `act` before a step that computes the token `BAD`.

    `limit` is the number of tokens for which there is memory in one step.
    """

    def __init__(self, model: Any, act: Callable[[], None] | None = None, limit: int = 10**6) -> None:
        super().__init__()
        self.model = model
        self.act = act
        self.limit = limit
        self.computed = 0

    @property
    def lengths_matter(self) -> bool:
        return bool(self.model.lengths_matter)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Any, lengths: Tensor | None = None
    ) -> Tensor:
        if len(tokens) > self.limit:
            raise torch.OutOfMemoryError(f"no memory for {len(tokens)} tokens")
        if self.act is not None and (tokens == BAD).any():
            self.act()
        self.computed += len(tokens)
        hidden: Tensor = self.model(tokens, positions, attention, lengths)
        return hidden.masked_fill((tokens == POISON)[:, None], torch.nan)

    @property
    def outgrown_at(self) -> int | None:
        found: int | None = self.model.outgrown_at
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.model.logits(hidden)
        return logits


class Hang:
    """Blocks whoever calls it until `release`."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._released = threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        self._released.wait()

    def release(self) -> None:
        self._released.set()


def sabotaged_engine(
    path: Path, act: Callable[[], None] | None = None, limit: int = 10**6, **settings: Any
) -> Engine:
    """An engine whose model is a `Saboteur`."""
    loaded = load_model(path, device=torch.device("cpu"), dtype=torch.float32)
    config = EngineConfig(device="cpu", threads=1, **settings)
    return Engine(replace(loaded, model=Saboteur(loaded.model, act, limit)), config)
