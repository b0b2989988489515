"""How a model is trained: its length, its learning rate, its regularisation."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the parameters are found. Everything here changes the loss curve."""

    context: int = 512
    batch: int = 8
    steps: int = 2000
    warmup: int = 100
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    weight_decay: float = 0.1
    gradient_clip: float = 1.0
    dropout: float = 0.0
    held_out: float = 0.02
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to the final rate (Loshchilov and Hutter 2017)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        height = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.final_learning_rate + height * (self.learning_rate - self.final_learning_rate)
