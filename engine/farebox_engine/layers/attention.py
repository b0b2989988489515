"""Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245) over whatever keeps the keys and values."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.config import DecoderConfig
from farebox_engine.layers.rotary import apply_rotary


class AttentionBackend(Protocol):
    """Where queries meet keys and values: a plain batch in training, a block-managed cache in serving."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the attention output [T, num_heads, head_dim] of decoder layer ``layer``.

        ``query`` is [T, num_heads, head_dim]; ``key`` and ``value`` [T, num_kv_heads, head_dim]; all
        rotated already. The scale is head_dim ** -0.5.
        """
        ...


class CausalAttention:
    """Attention within a batch of equally long sequences laid end to end, each from its start.

    ``documents``, int [T], numbers the document each token belongs to where a sequence holds several:
    then no token sees another document.
    """

    def __init__(self, sequence_length: int, documents: Tensor | None = None) -> None:
        self._sequence_length = sequence_length
        self._mask = None if documents is None else _same_document(documents.view(-1, sequence_length))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionBackend.attend`; T must be a multiple of the sequence length."""
        del layer
        output = functional.scaled_dot_product_attention(
            self._by_sequence(query),
            self._by_sequence(key),
            self._by_sequence(value),
            attn_mask=self._mask,
            is_causal=self._mask is None,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return output.transpose(1, 2).reshape(query.shape)

    def _by_sequence(self, states: Tensor) -> Tensor:
        """[T, heads, head_dim] -> [sequences, heads, sequence_length, head_dim]."""
        return states.view(-1, self._sequence_length, *states.shape[1:]).transpose(1, 2)


def _same_document(documents: Tensor) -> Tensor:
    """[sequences, length] -> bool [sequences, 1, length, length]: who sees whom."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril().unsqueeze(1)


class SelfAttention(nn.Module):
    """Projections around an `AttentionBackend`; q, k and v are one matrix so that the input is read once."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self._layer = layer
        self._heads = [config.num_heads, config.num_kv_heads, config.num_kv_heads]
        self._head_dim = config.head_dim
        width = sum(self._heads) * config.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, width, bias=config.attention_bias)
        self.o_proj = nn.Linear(
            config.num_heads * config.head_dim, config.hidden_size, bias=config.attention_bias
        )

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], attention: AttentionBackend) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape; ``rotation`` is `RotaryEmbedding`'s output."""
        heads = self.qkv_proj(hidden).view(hidden.shape[0], -1, self._head_dim)
        query, key, value = heads.split(self._heads, dim=1)
        query, key = apply_rotary(query, *rotation), apply_rotary(key, *rotation)
        mixed = attention.attend(self._layer, query, key, value)
        output: Tensor = self.o_proj(mixed.flatten(1))
        return output
