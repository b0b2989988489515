"""What the engine asks of an encoder-decoder, whatever its family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from farebox_engine.execution.kv_cache import KVShape

# Maps relative positions (key minus query), int64 [..., Q, K], to what is added to the attention
# scores of each head, [..., heads, Q, K].
PositionBias = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Sizes that caches and limits follow from; lengths in tokens.

    `vocab_size` is the target's; it is the source's, too, unless each has a vocabulary of its own.
    `extrapolates`: positions past `source_length` and `target_length` can be computed too.
    """

    vocab_size: int
    source_vocab_size: int
    source_length: int
    target_length: int
    extrapolates: bool
    encoder_layers: int
    encoder_width: int  # heads * head_dim, as `decoder_width`
    decoder_layers: int
    decoder_heads: int
    decoder_head_dim: int

    @property
    def kv_shape(self) -> KVShape:
        """What the decoder keeps of a token, of a source as of a target."""
        return KVShape(self.decoder_layers, self.decoder_heads, self.decoder_head_dim)

    @property
    def decoder_width(self) -> int:
        return self.decoder_heads * self.decoder_head_dim


@dataclass(frozen=True, slots=True)
class AttentionForm:
    """How a stack attends: the factor on query-key products, and a bias by relative position."""

    scale: float
    bias: PositionBias | None = None


class SelfAttentionBackend(Protocol):
    """Where queries meet the keys and values of their own side."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The attention output of `layer`; all four are [T, heads, head_dim]."""
        ...


class DecoderAttention(SelfAttentionBackend, Protocol):
    """As above, and the decoder's look at the source."""

    def attend_source(self, layer: int, query: Tensor) -> Tensor:
        """Attention of `query` [T, heads, head_dim] to the source's keys and values, kept elsewhere."""
        ...


class EncoderDecoder(Protocol):
    """A model over flat batches: tokens of any number of sequences laid end to end.

    `tokens` and `positions` are int64 [T]; positions count from 0 in each sequence.
    """

    @property
    def dimensions(self) -> Dimensions: ...

    @property
    def encoder_attention(self) -> AttentionForm: ...

    @property
    def decoder_attention(self) -> AttentionForm: ...

    def encode(self, tokens: Tensor, positions: Tensor, attention: SelfAttentionBackend) -> Tensor:
        """The source's states [T, hidden]."""
        ...

    def project_source(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        """For each decoder layer the keys and values of the source, [T, heads, head_dim] each."""
        ...

    def decode(self, tokens: Tensor, positions: Tensor, attention: DecoderAttention) -> Tensor:
        """The target's states [T, hidden]."""
        ...

    def logits(self, states: Tensor) -> Tensor:
        """fp32 [N, vocab_size] for states [N, hidden]."""
        ...


def split_heads(states: Tensor, heads: int) -> Tensor:
    """[T, heads * head_dim] -> [T, heads, head_dim]."""
    return states.view(states.shape[0], heads, -1)


def relative_positions(queries: Tensor, keys: int) -> Tensor:
    """Key minus query, int64 [..., Q, keys], for query positions int64 [..., Q] and keys from 0."""
    return torch.arange(keys, device=queries.device) - queries[..., None]
