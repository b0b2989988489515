"""Marian, the models of OPUS-MT (Junczys-Dowmunt et al. 2018, arXiv 1804.00344; Tiedemann 2020).

A Transformer as in Vaswani et al. 2017 (arXiv 1706.03762): sinusoidal positions, normalisation
after the sum. Modules are named as in Hugging Face checkpoints, so that weights are found by name.
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


class _Side(nn.Module):
    """A stack, with an embedding of its own if its side has so many tokens of its own."""

    def __init__(self, config: PostNormConfig, layers: nn.ModuleList, own_tokens: int | None) -> None:
        super().__init__()
        if own_tokens is not None:
            self.embed_tokens = nn.Embedding(own_tokens, config.hidden_size)
        self.layers = layers


class _Body(nn.Module):
    def __init__(self, config: PostNormConfig, dropout: float) -> None:
        super().__init__()
        separate = config.source_vocab_size is not None
        if not separate:
            self.shared = nn.Embedding(config.vocab_size, config.hidden_size)
        self.encoder = _Side(config, encoder_layers(config, dropout), config.source_vocab_size)
        own_tokens = config.vocab_size if separate else None
        self.decoder = _Side(config, decoder_layers(config, dropout), own_tokens)
        self._separate = separate

    @property
    def source_embedding(self) -> nn.Embedding:
        return self.encoder.embed_tokens if self._separate else self.shared

    @property
    def target_embedding(self) -> nn.Embedding:
        return self.decoder.embed_tokens if self._separate else self.shared


class Marian(nn.Module):
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
        embedded = self._embed(self.model.source_embedding, tokens, positions)
        return run_encoder(self.model.encoder.layers, embedded, attention)

    def project_source(self, states: Tensor) -> list[tuple[Tensor, Tensor]]:
        return project_source(self.model.decoder.layers, states)

    def decode(self, tokens: Tensor, positions: Tensor, attention: DecoderAttention) -> Tensor:
        embedded = self._embed(self.model.target_embedding, tokens, positions)
        return run_decoder(self.model.decoder.layers, embedded, attention)

    def logits(self, states: Tensor) -> Tensor:
        weight = self.model.target_embedding.weight
        return functional.linear(states, weight, self.final_logits_bias[0]).float()

    def _embed(self, embedding: nn.Embedding, tokens: Tensor, positions: Tensor) -> Tensor:
        embedded = embedding(tokens) * self._config.embedding_scale
        output: Tensor = self.dropout(embedded + sinusoids(positions, embedded.shape[1]).to(embedded))
        return output


def sinusoids(positions: Tensor, size: int) -> Tensor:
    """For int64 positions [T] fp32 [T, size]: the sines of all frequencies, then their cosines.

    The frequencies of Vaswani et al. 2017, section 3.5, but not interleaved. Computed in
    fp64, as checkpoints have them.
    """
    exponents = torch.arange(0, size, 2, dtype=torch.float64, device=positions.device) / size
    angles = positions[:, None] / 10000.0**exponents
    return torch.cat((angles.sin(), angles.cos()[:, : size // 2]), dim=1).float()
