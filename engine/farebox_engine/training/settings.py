"""What a training run is told, checked once."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from farebox_engine.checkpoint.rope import Rope
from farebox_engine.models.llama import LlamaConfig
from farebox_engine.training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The decoder to be trained; the tokenizer decides the vocabulary."""

    hidden_size: int = 256
    intermediate_size: int = 704
    layers: int = 6
    heads: int = 4
    kv_heads: int = 2

    def config(self, vocab_size: int, context: int, dtype: str, end_tokens: tuple[int, ...]) -> LlamaConfig:
        """Return the decoder's config.

        Raises:
            TrainingError: the sizes do not fit each other.
        """
        if self.hidden_size % self.heads:
            raise TrainingError(
                f"--hidden-size {self.hidden_size} must be a multiple of --heads {self.heads}."
            )
        try:
            head_dim = self.hidden_size // self.heads
            return LlamaConfig(
                vocab_size=vocab_size,
                hidden_size=self.hidden_size,
                intermediate_size=self.intermediate_size,
                num_layers=self.layers,
                num_heads=self.heads,
                num_kv_heads=self.kv_heads,
                head_dim=head_dim,
                max_position_embeddings=context,
                rope=Rope(head_dim, context),
                tie_word_embeddings=True,
                dtype=dtype,
                eos_token_ids=end_tokens,
                pad_token_id=end_tokens[-1],
            )
        except ValueError as error:
            raise TrainingError(str(error)) from error


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


def fingerprint(shape: ModelShape, recipe: Recipe, stream: str) -> dict[str, object]:
    """What must not change between a checkpoint and the run that resumes it."""
    return {"shape": asdict(shape), "recipe": asdict(recipe), "stream": stream}
