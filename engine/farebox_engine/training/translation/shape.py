"""The encoder-decoder that a training run makes."""

from __future__ import annotations

from dataclasses import dataclass

from farebox_engine.seq2seq.models.post_norm import PostNormConfig
from farebox_engine.training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class TranslatorShape:
    """The Marian to be trained; encoder and decoder have as many layers each."""

    hidden_size: int = 256
    feed_forward: int = 1024
    layers: int = 3
    heads: int = 4

    def config(self, vocab_size: int, context: int) -> PostNormConfig:
        """Raises TrainingError where the sizes do not fit each other."""
        if self.hidden_size % self.heads:
            raise TrainingError(
                f"--hidden-size {self.hidden_size} must be a multiple of --heads {self.heads}."
            )
        return PostNormConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            encoder_layers=self.layers,
            encoder_heads=self.heads,
            encoder_feed_forward=self.feed_forward,
            decoder_layers=self.layers,
            decoder_heads=self.heads,
            decoder_feed_forward=self.feed_forward,
            activation="swish",
            embedding_scale=self.hidden_size**0.5,
            positions=context,
        )
