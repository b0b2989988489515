"""What is measured: a batch of prompts, all answered greedily to the same length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True)
class Workload:
    """`batch` prompts of `context` tokens each, each answered with `new_tokens` tokens."""

    batch: int
    context: int
    new_tokens: int

    def prompts(self, vocab_size: int) -> list[list[int]]:
        """The same random tokens on every call."""
        generator = torch.Generator().manual_seed(self.batch)
        shape = (self.batch, self.context)
        tokens: list[list[int]] = torch.randint(vocab_size, shape, generator=generator).tolist()
        return tokens


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt's tokens, and when each was known here, by `time.perf_counter`."""

    tokens: list[int]
    times: list[float]


class Contender(Protocol):
    """Something that answers prompts; `name` heads its column."""

    name: str

    def answer(self, prompts: list[list[int]], new_tokens: int) -> list[Answer]:
        """Generate exactly `new_tokens` tokens for each prompt; returns once all are known here."""
        ...

    def close(self) -> None: ...
