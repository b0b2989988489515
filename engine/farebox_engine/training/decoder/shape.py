"""The decoder that a training run makes."""

from __future__ import annotations

from dataclasses import dataclass

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
