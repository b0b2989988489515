"""The Transformer encoder of BERT's kind: each block's output is added, then normalised."""

from __future__ import annotations

from torch import Tensor, nn

from farebox_engine.encoders.models.activations import ACTIVATIONS
from farebox_engine.encoders.models.config import EncoderConfig
from farebox_engine.encoders.models.ragged import RaggedAttention, RaggedBatch


class PostNormLayer(nn.Module):
    """Attention and feed-forward network (Vaswani et al. 2017, arXiv 1706.03762); q, k, v are one matrix."""

    def __init__(self, config: EncoderConfig, dropout: float) -> None:
        super().__init__()
        size = config.hidden_size
        self._heads = (3, config.num_heads, config.head_dim)
        self._activation = ACTIVATIONS[config.activation]
        self.qkv = nn.Linear(size, 3 * size)
        self.attention_output = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size, config.norm_eps)
        self.up = nn.Linear(size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, size)
        self.output_norm = nn.LayerNorm(size, config.norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, attention: RaggedAttention) -> Tensor:
        """Map ``hidden`` [T, hidden_size] to the same shape."""
        query, key, value = self.qkv(hidden).view(-1, *self._heads).unbind(1)
        mixed = self.attention_output(attention.attend(query, key, value))
        hidden = self.attention_norm(hidden + self.dropout(mixed))
        widened = self._activation(self.up(hidden))
        output: Tensor = self.output_norm(hidden + self.dropout(self.down(widened)))
        return output


class Embeddings(nn.Module):
    """What a token, its position and its part of a pair mean, added and normalised."""

    def __init__(self, config: EncoderConfig, dropout: float) -> None:
        super().__init__()
        self._offset = config.position_offset
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.position_rows, config.hidden_size)
        self.token_type_embeddings = (
            nn.Embedding(config.token_types, config.hidden_size) if config.token_types else None
        )
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Return [T, hidden_size]."""
        hidden = self.word_embeddings(batch.tokens)
        if self.token_type_embeddings is not None:
            hidden = hidden + self.token_type_embeddings(batch.token_types)
        hidden = hidden + self.position_embeddings(batch.positions + self._offset)
        output: Tensor = self.dropout(self.LayerNorm(hidden))
        return output


class PostNormEncoder(nn.Module):
    """BERT, RoBERTa and DistilBERT are this, with tables of other sizes."""

    def __init__(self, config: EncoderConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.embeddings = Embeddings(config, dropout)
        self.layers = nn.ModuleList(PostNormLayer(config, dropout) for _ in range(config.num_layers))

    def forward(self, batch: RaggedBatch) -> Tensor:
        """Return hidden states [T, hidden_size]."""
        hidden: Tensor = self.embeddings(batch)
        for layer in self.layers:
            hidden = layer(hidden, batch.attention)
        return hidden
