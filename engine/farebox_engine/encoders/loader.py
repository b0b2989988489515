"""From a Hugging Face folder to an encoder, with the same care as for decoders: no pickle, no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch

from farebox_engine.checkpoint.fields import ConfigError, Fields
from farebox_engine.checkpoint.files import hash_files, weight_files
from farebox_engine.checkpoint.json_file import read_json
from farebox_engine.checkpoint.quantized import refuse_quantized
from farebox_engine.checkpoint.tensors import Tensors, load_module
from farebox_engine.encoders.models.config import EncoderConfig, Task, read_task
from farebox_engine.encoders.models.pooling import SentenceHead
from farebox_engine.encoders.models.registry import ENCODERS, EncoderFamily, EncoderModel
from farebox_engine.encoders.models.weights import load_encoder_weights
from farebox_engine.encoders.sentence import SentenceSettings, read_head, read_settings
from farebox_engine.encoders.tokenizer import EncoderTokenizer
from farebox_engine.errors import LoadError


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
    folder = Path(folder)
    if not folder.is_dir():
        raise LoadError(f"There is no folder {folder}; give the path of a Hugging Face checkpoint.")
    description = read_json(folder / "config.json")
    family = encoder_family(description)
    refuse_quantized(folder, description)
    files = weight_files(folder)
    try:
        task = read_task(description)
        config = family.read_config(Fields(description, "config.json"))
        settings = read_settings(folder, description)
        pooler = read_head(folder, config.hidden_size) if task is Task.EMBED else None
        with Tensors(files) as tensors:
            module = load_module(
                lambda: family.build(config, task),
                partial(load_encoder_weights, names=family.names, labels_tokens=task is Task.LABEL_TOKENS),
                tensors,
                layers=config.num_layers,
                device=device,
                dtype=dtype,
            )
    except ConfigError as error:
        raise LoadError(f"{folder} cannot be loaded: {error}") from error
    model = cast(EncoderModel, module)
    return LoadedEncoder(
        model=model.eval(),
        pooler=None if pooler is None else pooler.to(device).eval(),
        task=task,
        config=config,
        settings=settings,
        tokenizer=EncoderTokenizer.load(folder, config, settings, max_length),
        model_hash=hash_files(files),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        device=device,
        dtype=dtype,
    )


def is_encoder(description: Mapping[str, object]) -> bool:
    """Whether a config.json describes an encoder, rather than a decoder."""
    return description.get("model_type") in ENCODERS


def encoder_family(description: Mapping[str, object]) -> EncoderFamily:
    """The family of a checkpoint by its config.json.

    Raises:
        LoadError: it is none of those known.
    """
    model_type = description.get("model_type")
    family = ENCODERS.get(str(model_type))
    if family is not None:
        return family
    code = " Code that comes with a checkpoint is never run." if description.get("auto_map") else ""
    known = ", ".join(sorted(ENCODERS))
    raise LoadError(f"Encoders of type {model_type!r} are not supported; supported are: {known}.{code}")
