"""Adapters on offer: a folder as peft saves it, sold as `base:adapter` where `base` is a model on offer."""

from pathlib import Path

import torch

from farebox.gateway.models.checkpoints import Checkpoint, UnusableCheckpoint
from farebox_engine.errors import LoadError
from farebox_engine.lora.reading import adaptable_places, is_adapter, read_adapter
from farebox_engine.models.loader import load_model


def base_of(model_id: str, folder: Path) -> str | None:
    """The model that the adapter in `folder` is for, by the adapter's own name; None for a whole model."""
    return model_id.rpartition(":")[0] if is_adapter(folder) else None


def inspect_adapter(folder: Path, base: Path) -> Checkpoint:
    """Check an adapter against the model in the folder `base`, without computing anything.

    Raises UnusableCheckpoint, saying what is wrong.
    """
    folder = folder.resolve()
    try:
        loaded = load_model(base, device=torch.device("meta"), dtype=torch.float32)
        adapter = read_adapter(folder.name, folder, loaded, adaptable_places(loaded))
    except LoadError as error:
        raise UnusableCheckpoint(str(error)) from None
    return Checkpoint(
        path=folder,
        sha256=adapter.hash,
        context_length=loaded.config.max_position_embeddings,
        parameters=adapter.parameters,
    )
