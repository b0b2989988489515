"""BART (Lewis et al. 2020, arXiv 1910.13461).

Modules are named as in Hugging Face checkpoints, so that weights are found by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.seq2seq.models.model import (
    AttentionForm,
    DecoderAttention,
    Dimensions,
    SelfAttentionBackend,
)
from farebox_engine.seq2seq.models.post_norm import (
    PostNormConfig,
    decoder_layers,
    encoder_layers,
    project_source,
    run_decoder,
    run_encoder,
)

_POSITION_OFFSET = 2  # the first two rows of the table were fairseq's padding index and one before it


class _Side(nn.Module):
    def __init__(self, config: PostNormConfig, layers: nn.ModuleList) -> None:
        super().__init__()
        self.embed_positions = nn.Embedding(config.positions + _POSITION_OFFSET, config.hidden_size)
        self.layernorm_embedding = nn.LayerNorm(config.hidden_size)
        self.layers = layers

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        output: Tensor = self.layernorm_embedding(tokens + self.embed_positions(positions + _POSITION_OFFSET))
        return output


class _Body(nn.Module):
    def __init__(self, config: PostNormConfig, dropout: float) -> None:
        super().__init__()
        self.shared = nn.Embedding(config.vocab_size, config.hidden_size)
        self.encoder = _Side(config, encoder_layers(config, dropout))
        self.decoder = _Side(config, decoder_layers(config, dropout))


class Bart(nn.Module):
    """An encoder and a decoder over flat batches; see `EncoderDecoder` for shapes."""

    def __init__(self, config: PostNormConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self._config = config
        self.model = _Body(config, dropout)
        self.dropout = nn.Dropout(dropout)
        self.final_logits_bias = nn.Parameter(torch.zeros(1, config.vocab_size))

    @property
    def dimensions(self) -> Dimensions:
        return self._config.dimensions

    @property
    def encoder_attention(self) -> AttentionForm:
        return self._config.encoder_attention

    @property
    def decoder_attention(self) -> AttentionForm:
        return self._config.decoder_attention

    def encode(self, tokens: Tensor, positions: Tensor, attention: SelfAttentionBackend) -> Tensor:
        side = self.model.encoder
        hidden = self.dropout(side.embed(self._embed(tokens), positions))
        return run_encoder(side.layers, hidden, attention)

    def project_source(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        return project_source(self.model.decoder.layers, states)

    def decode(self, tokens: Tensor, positions: Tensor, attention: DecoderAttention) -> Tensor:
        side = self.model.decoder
        hidden = self.dropout(side.embed(self._embed(tokens), positions))
        return run_decoder(side.layers, hidden, attention)

    def logits(self, states: Tensor) -> Tensor:
        return functional.linear(states, self.model.shared.weight, self.final_logits_bias[0]).float()

    def _embed(self, tokens: Tensor) -> Tensor:
        output: Tensor = self.model.shared(tokens) * self._config.embedding_scale
        return output
