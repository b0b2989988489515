"""What all decoders here are: an embedding, layers, a last norm and a head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.layers.attention import AttentionBackend
from farebox_engine.layers.block import Rotation
from farebox_engine.layers.rotary import RotaryEmbedding


class Decoder(nn.Module):
    """A decoder over flat batches: tokens of any number of sequences laid end to end.

    Which token sees which is the `AttentionBackend`'s affair. A new model's parameters are
    arbitrary: load weights (`farebox_engine.models.weights`). A family assembles ``layers`` and
    ``norm`` in its constructor, and overrides `embed`, `rotations` or `logits` where it differs.
    """

    def __init__(self, config: DecoderConfig, layers: Iterable[nn.Module], norm: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.rotary = None if config.rope is None else RotaryEmbedding(config.rope)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: AttentionBackend,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """Return hidden states [T, hidden_size], final norm applied, for int64 ``tokens`` [T].

        ``positions`` int64 [T] count from 0 in each sequence. ``lengths`` int64 [T] is needed only
        where `lengths_matter`: see `RotaryEmbedding.forward`.
        """
        hidden = self.embed(tokens, positions)
        for layer, rotation in zip(self.layers, self.rotations(positions, lengths), strict=True):
            hidden = layer(hidden, rotation, attention)
        output: Tensor = self.norm(hidden)
        return output

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return what enters the first layer, [T, hidden_size]."""
        del positions
        hidden: Tensor = self.embed_tokens(tokens)
        return hidden

    def rotations(self, positions: Tensor, lengths: Tensor | None) -> Sequence[Rotation | None]:
        """Return the rotation of queries and keys in each layer."""
        rotation = None if self.rotary is None else self.rotary(positions, lengths)
        return [rotation] * len(self.layers)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return fp32 logits [N, vocab_size] for hidden states [N, hidden_size]."""
        logits: Tensor = self.lm_head(hidden)
        return logits.float()

    @property
    def lengths_matter(self) -> bool:
        """Whether `forward` looks at ``lengths``."""
        return self.rotary is not None and self.rotary.lengths_matter

    @property
    def outgrown_at(self) -> int | None:
        """The length past which a sequence's keys must all be computed anew, if there is one."""
        return None

    @property
    def device(self) -> torch.device:
        return self.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embed_tokens.weight.dtype
