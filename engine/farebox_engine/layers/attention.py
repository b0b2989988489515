"""Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245) over whatever keeps the keys and values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from farebox_engine.checkpoint.config import DecoderConfig
from farebox_engine.layers.fused import FusedLinear
from farebox_engine.layers.rotary import apply_rotary

# Query rows whose scores are held at once where they must be computed in the open.
_CAPPED_ROWS = 1024


@dataclass(frozen=True, slots=True)
class AttentionRule:
    """What a layer's attention does beyond plain causal attention.

    A query sees the last ``window`` tokens, its own included, or all. Scores are products times
    ``scale``, head_dim ** -0.5 by default, then bounded to ``softcap`` * tanh(score / ``softcap``).
    """

    window: int | None = None
    scale: float | None = None
    softcap: float | None = None


CAUSAL = AttentionRule()


class AttentionBackend(Protocol):
    """Where queries meet keys and values: a plain batch in training, a block-managed cache in serving."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule = CAUSAL
    ) -> Tensor:
        """Return the attention output [T, num_heads, head_dim] of decoder layer ``layer``.

        ``query`` is [T, num_heads, head_dim]; ``key`` and ``value`` [T, num_kv_heads, head_dim]; all
        rotated already. ``rule`` must be the same in every call for a layer.
        """
        ...


class CausalAttention:
    """Attention within a batch of equally long sequences laid end to end, each from its start.

    ``documents``, int [T], numbers the document each token belongs to where a sequence holds several:
    then no token sees another document.
    """

    def __init__(self, sequence_length: int, documents: Tensor | None = None) -> None:
        self._sequence_length = sequence_length
        self._same = None if documents is None else _same_document(documents.view(-1, sequence_length))
        self._masks: dict[int | None, Tensor | None] = {None: self._same}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule = CAUSAL
    ) -> Tensor:
        """See `AttentionBackend.attend`; T must be a multiple of the sequence length."""
        del layer
        output = attend_where(
            self._by_sequence(query),
            self._by_sequence(key),
            self._by_sequence(value),
            rule,
            self._mask(rule.window, query.device),
        )
        return output.transpose(1, 2).reshape(query.shape)

    def _mask(self, window: int | None, device: torch.device) -> Tensor | None:
        if window not in self._masks:
            near = causal_mask(self._sequence_length, window, device)
            self._masks[window] = (
                self._same if near is None else near if self._same is None else near & self._same
            )
        return self._masks[window]

    def _by_sequence(self, states: Tensor) -> Tensor:
        """[T, heads, head_dim] -> [sequences, heads, sequence_length, head_dim]."""
        return states.view(-1, self._sequence_length, *states.shape[1:]).transpose(1, 2)


def _same_document(documents: Tensor) -> Tensor:
    """[sequences, length] -> bool [sequences, 1, length, length]: who sees whom."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril().unsqueeze(1)


def causal_mask(length: int, window: int | None, device: torch.device) -> Tensor | None:
    """Who sees whom in one sequence, bool [length, length]; ``None`` where that is plainly causal."""
    if window is None or window >= length:
        return None
    return torch.ones(length, length, dtype=torch.bool, device=device).tril().triu(1 - window)


def attend_where(
    query: Tensor, key: Tensor, value: Tensor, rule: AttentionRule, mask: Tensor | None
) -> Tensor:
    """Attention of ``query`` [..., num_heads, T, head_dim] over [..., num_kv_heads, L, head_dim].

    ``mask`` is bool, broadcast to [..., 1, T, L], true where seen, at least once in each row; ``None``
    stands for causal attention of a whole sequence to itself. ``rule.window`` is the mask's affair.
    """
    if rule.softcap is not None:
        return _attend_capped(query, key, value, rule.scale, rule.softcap, mask)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=rule.scale,
        enable_gqa=query.shape[-3] != key.shape[-3],
    )


def _attend_capped(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, softcap: float, mask: Tensor | None
) -> Tensor:
    """Attention with bounded scores (Gemma 2, arXiv 2408.00118, section 2), which no fused kernel offers."""
    if mask is None:
        length = query.shape[-2]
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    mask = mask.expand(*mask.shape[:-2], query.shape[-2], -1)
    # The query heads that share a key head get a dimension of their own: no repeated keys.
    grouped = torch.unflatten(query, -3, (key.shape[-3], -1)) * (scale or query.shape[-1] ** -0.5)
    keys, values = key.unsqueeze(-3).transpose(-1, -2), value.unsqueeze(-3)
    outputs = []
    for part, seen in zip(
        torch.split(grouped, _CAPPED_ROWS, dim=-2), torch.split(mask, _CAPPED_ROWS, dim=-2), strict=True
    ):
        scores = softcap * torch.tanh((part @ keys).float() / softcap)
        seen = seen if seen.dim() == 2 else seen.unsqueeze(-3)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        outputs.append(weights.to(value.dtype) @ values)
    return torch.cat(outputs, dim=-2).flatten(-4, -3)


class SelfAttention(nn.Module):
    """Projections around an `AttentionBackend`; q, k and v are one matrix so that the input is read once.

    ``norm`` makes a normalisation of each head's queries and keys, applied before they are rotated.
    """

    def __init__(
        self,
        config: DecoderConfig,
        layer: int,
        *,
        rule: AttentionRule | None = None,
        qkv_bias: bool = False,
        output_bias: bool = False,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self._layer = layer
        self._rule = rule or AttentionRule(window=config.window(layer))
        self._heads = [config.num_heads, config.num_kv_heads, config.num_kv_heads]
        self._head_dim = config.head_dim
        query, key_value = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.qkv_proj = FusedLinear(
            config.hidden_size,
            {"q_proj": query, "k_proj": key_value, "v_proj": key_value},
            bias=qkv_bias,
        )
        self.o_proj = nn.Linear(query, config.hidden_size, bias=output_bias)
        self.q_norm = None if norm is None else norm(config.head_dim)
        self.k_norm = None if norm is None else norm(config.head_dim)

    def forward(
        self, hidden: Tensor, rotation: tuple[Tensor, Tensor] | None, attention: AttentionBackend
    ) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape.

        ``rotation`` is `RotaryEmbedding`'s output, ``None`` where positions are learned.
        """
        heads = self.qkv_proj(hidden).view(hidden.shape[0], -1, self._head_dim)
        query, key, value = heads.split(self._heads, dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            query, key = self.q_norm(query), self.k_norm(key)
            if rotation is not None:
                query, key = apply_rotary(query, *rotation), apply_rotary(key, *rotation)
        elif rotation is not None:
            # Side by side in the fused matrix, they are rotated at once.
            rotated = apply_rotary(heads[:, : -self._heads[2]], *rotation)
            query, key = torch.split(rotated, self._heads[:2], dim=1)
        mixed = attention.attend(self._layer, query, key, value, self._rule)
        output: Tensor = self.o_proj(mixed.flatten(1))
        return output
