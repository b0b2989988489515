"""From a Hugging Face folder to an encoder, with the same care as for decoders: no pickle, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch

from farebox_engine.checkpoint.fields import Fields
from farebox_engine.checkpoint.folder import count_parameters, open_folder
from farebox_engine.encoders.models.config import EncoderConfig, Task, has_tied_head, read_task
from farebox_engine.encoders.models.pooling import SentenceHead
from farebox_engine.encoders.models.registry import ENCODERS, EncoderModel
from farebox_engine.encoders.models.weights import load_encoder_weights
from farebox_engine.encoders.sentence import SentenceSettings, read_head, read_settings
from farebox_engine.encoders.tokenizer import EncoderTokenizer


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """An encoder ready to run. ``pooler`` is there for embeddings only.

    ``model_hash`` is the SHA-256 over its weight files, hexadecimal.
    """

    model: EncoderModel
    pooler: SentenceHead | None
    task: Task
    config: EncoderConfig
    settings: SentenceSettings
    tokenizer: EncoderTokenizer
    model_hash: str
    parameters: int
    device: torch.device
    dtype: torch.dtype


def load_encoder(
    folder: str | Path, *, device: torch.device, dtype: torch.dtype, max_length: int | None = None
) -> LoadedEncoder:
    """Read config, weights, tokenizer and sentence-transformers files of the checkpoint in ``folder``.

    ``max_length``, in tokens, may shorten the inputs the model takes.

    Raises:
        LoadError: something is missing, broken or not supported; one sentence that says what and how
            to mend it.
    """
    with open_folder(folder, ENCODERS) as checkpoint:
        family, description = checkpoint.family, checkpoint.description
        task = read_task(description)
        config = family.read_config(Fields(description, "config.json"))
        settings = read_settings(checkpoint.path, description)
        pooler = read_head(checkpoint.path, config.hidden_size) if task is Task.EMBED else None
        model = checkpoint.load_module(
            lambda: family.build(config, task),
            partial(
                load_encoder_weights,
                names=family.names,
                labels_tokens=task is Task.LABEL_TOKENS,
                tied=has_tied_head(description),
            ),
            layers=config.num_layers,
            device=device,
            dtype=dtype,
        )
    return LoadedEncoder(
        model=cast(EncoderModel, model),
        pooler=None if pooler is None else pooler.to(device).eval(),
        task=task,
        config=config,
        settings=settings,
        tokenizer=EncoderTokenizer.load(checkpoint.path, config, settings, max_length),
        model_hash=checkpoint.hash(),
        parameters=count_parameters(model),
        device=device,
        dtype=dtype,
    )


def is_encoder(description: Mapping[str, object]) -> bool:
    """Whether a config.json describes an encoder, rather than a decoder."""
    return ENCODERS.include(description)
