"""A decoder layer: attention and feed-forward network around a residual stream."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from farebox_engine.layers.attention import AttentionBackend, SelfAttention

Rotation = tuple[Tensor, Tensor]


class PreNormBlock(nn.Module):
    """Attention and feed-forward network, each normalised before and added to the residual stream.

    ``dropout`` acts on what each adds, and only in training mode.
    """

    def __init__(
        self, attention: SelfAttention, mlp: nn.Module, norm: Callable[[], nn.Module], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.input_layernorm = norm()
        self.self_attn = attention
        self.post_attention_layernorm = norm()
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, rotation: Rotation | None, attention: AttentionBackend) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape."""
        mixed = self.self_attn(self.input_layernorm(hidden), rotation, attention)
        hidden = hidden + self.dropout(mixed)
        output: Tensor = hidden + self.dropout(self.mlp(self.post_attention_layernorm(hidden)))
        return output


class SandwichNormBlock(nn.Module):
    """As `PreNormBlock`, but what each part adds is normalised too (Gemma 2, arXiv 2408.00118)."""

    def __init__(self, attention: SelfAttention, mlp: nn.Module, norm: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.input_layernorm = norm()
        self.self_attn = attention
        self.post_attention_layernorm = norm()
        self.pre_feedforward_layernorm = norm()
        self.mlp = mlp
        self.post_feedforward_layernorm = norm()

    def forward(self, hidden: Tensor, rotation: Rotation | None, attention: AttentionBackend) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape."""
        mixed = self.self_attn(self.input_layernorm(hidden), rotation, attention)
        hidden = hidden + self.post_attention_layernorm(mixed)
        widened = self.mlp(self.pre_feedforward_layernorm(hidden))
        output: Tensor = hidden + self.post_feedforward_layernorm(widened)
        return output
