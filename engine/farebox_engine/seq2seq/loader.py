"""From a Hugging Face folder to an encoder-decoder, reading data only: no pickle, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from farebox_engine.checkpoint.folder import open_folder
from farebox_engine.seq2seq.generation_config import GenerationConfig
from farebox_engine.seq2seq.models.model import Dimensions, EncoderDecoder
from farebox_engine.seq2seq.models.registry import FAMILIES
from farebox_engine.seq2seq.weights import load_weights, refuse_untied
from farebox_engine.tokenization.sentencepiece.marian_tokenizer import SOURCE, MarianTokenizer
from farebox_engine.tokenization.tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True)
class LoadedSeq2Seq:
    """A model ready to run. `model_hash` is the SHA-256 over its weight files, hexadecimal."""

    model: EncoderDecoder
    defaults: GenerationConfig
    tokenizer: ChatTokenizer | MarianTokenizer
    model_hash: str
    encoder_parameters: int
    decoder_parameters: int
    device: torch.device
    dtype: torch.dtype


def is_seq2seq(description: Mapping[str, object]) -> bool:
    """Whether a config.json is that of a family in this package's registry."""
    return FAMILIES.include(description)


def load_seq2seq(folder: str | Path, *, device: torch.device, dtype: torch.dtype) -> LoadedSeq2Seq:
    """Read config, weights and tokenizer of the checkpoint in `folder`.

    Raises:
        LoadError: something is missing, broken or not supported; one sentence that says
            what and how to mend it.
    """
    with open_folder(folder, FAMILIES) as checkpoint:
        blueprint = checkpoint.family.plan(checkpoint.description, checkpoint.tensors.keys())
        module = checkpoint.load_module(
            blueprint.build,
            partial(load_weights, family=checkpoint.family),
            layers=blueprint.layers,
            device=device,
            dtype=dtype,
        )
        refuse_untied(module, checkpoint.tensors, checkpoint.family)
        model = cast(EncoderDecoder, module)
        dimensions = model.dimensions
        defaults = GenerationConfig.load(checkpoint.path, checkpoint.description, dimensions.vocab_size)
    encoder, decoder = _parameters(module)
    return LoadedSeq2Seq(
        model=model,
        defaults=defaults,
        tokenizer=_tokenizer(checkpoint.path, checkpoint.description, dimensions),
        model_hash=checkpoint.hash(),
        encoder_parameters=encoder,
        decoder_parameters=decoder,
        device=device,
        dtype=dtype,
    )


def _tokenizer(
    folder: Path, description: Mapping[str, object], dimensions: Dimensions
) -> ChatTokenizer | MarianTokenizer:
    """That of tokenizer.json, which holds one vocabulary; or what OPUS-MT has instead."""
    separate = description.get("share_encoder_decoder_embeddings") is False
    published = (folder / SOURCE).exists() and not (folder / "tokenizer.json").exists()
    if description.get("model_type") == "marian" and (separate or published):
        return MarianTokenizer.load(
            folder, dimensions.source_vocab_size, dimensions.vocab_size, separate=separate
        )
    return ChatTokenizer.load(folder, dimensions.vocab_size)


def _parameters(module: nn.Module) -> tuple[int, int]:
    """How many parameters a source's token meets, and how many a target's."""
    encoder = decoder = 0
    for name, parameter in module.named_parameters():
        # Looking up an embedding reads one row; as the output projection it is the decoder's.
        if name.endswith("encoder.embed_tokens.weight"):
            continue
        if ".encoder." in f".{name}" or _projects_source(name):
            encoder += parameter.numel()
        else:
            decoder += parameter.numel()
    return encoder, decoder


def _projects_source(name: str) -> bool:
    """Whether a decoder's parameter acts on the source's states, once per source."""
    return name.split(".")[-3:-1] in (
        ["encoder_attn", "k_proj"],
        ["encoder_attn", "v_proj"],
        ["EncDecAttention", "k"],
        ["EncDecAttention", "v"],
    )
