"""A model that misbehaves on demand, around a real one."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from farebox_engine import Engine, EngineConfig, load_model
from farebox_engine.decoders.assembly import Layout

BAD = 357  # the token at which it misbehaves
POISON = 360  # the token whose hidden state is not a number


class Mischief:
    """Does `act` before a call that computes the token `BAD`.

    `limit` is the number of tokens for which there is memory in one call.
    """

    def __init__(self, act: Callable[[], None] | None = None, limit: int = 10**6) -> None:
        self._act = act
        self._limit = limit

    def before(self, tokens: Tensor) -> None:
        if len(tokens) > self._limit:
            raise torch.OutOfMemoryError(f"no memory for {len(tokens)} tokens")
        if self._act is not None and (tokens == BAD).any():
            self._act()

    @staticmethod
    def poison(tokens: Tensor, hidden: Tensor) -> Tensor:
        return hidden.masked_fill((tokens == POISON)[:, None], torch.nan)


class Saboteur(nn.Module):
    """A decoder up to `Mischief`."""

    def __init__(self, model: Any, mischief: Mischief) -> None:
        super().__init__()
        self.model = model
        self.mischief = mischief

    @property
    def lengths_matter(self) -> bool:
        return bool(self.model.lengths_matter)

    def forward(
        self, tokens: Tensor, positions: Tensor, attention: Any, lengths: Tensor | None = None
    ) -> Tensor:
        self.mischief.before(tokens)
        return self.mischief.poison(tokens, self.model(tokens, positions, attention, lengths))

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


def failing() -> NoReturn:
    raise RuntimeError("a kernel that fails")


def leaving() -> NoReturn:
    raise SystemExit("not an Exception, so that no handler on the way takes it")


def sabotaged_engine(
    path: Path,
    act: Callable[[], None] | None = None,
    limit: int = 10**6,
    layout: Layout | None = None,
    **settings: Any,
) -> Engine:
    """An engine whose model is a `Saboteur`."""
    loaded = load_model(path, device=torch.device("cpu"), dtype=torch.float32)
    config = EngineConfig(device="cpu", threads=1, **settings)
    return Engine(replace(loaded, model=Saboteur(loaded.model, Mischief(act, limit))), config, layout)
