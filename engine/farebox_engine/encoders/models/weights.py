"""How Hugging Face names an encoder's tensors, and where they lie in the parameters here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from farebox_engine.checkpoint.fields import ConfigError
from farebox_engine.checkpoint.leftovers import without_leftovers
from farebox_engine.checkpoint.stored_names import stored_names

# Names that TensorFlow gave the parts of a layer norm, which old checkpoints still use.
_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}


@dataclass(frozen=True, slots=True)
class NameMap:
    """A family's names. A part here that is made of several there is their rows, one after another.

    ``prefix`` stands before the encoder's names where a head was exported with it. ``left_aside``
    begins the names of what a checkpoint may hold that this task has no use for. ``tied`` is the head
    for masked words whose matrix is that of the ``embedding``.
    """

    prefix: str
    layer: str
    layer_parts: Mapping[str, tuple[str, ...]]
    head_parts: Mapping[str, str]
    left_aside: tuple[str, ...]
    tied: str
    embedding: str = "embeddings.word_embeddings.weight"
    token_head_parts: Mapping[str, str] = field(default_factory=lambda: {"output": "classifier"})

    def sources(self, name: str, *, labels_tokens: bool) -> list[str]:
        """The checkpoint's names, without the prefix, of parameter ``name`` of an `EncoderModel`."""
        path, _, kind = name.rpartition(".")
        owner, _, part = path.partition(".")
        if owner == "head":
            parts = {**self.head_parts, **(self.token_head_parts if labels_tokens else {})}
            return [f"{parts[part]}.{kind}"]
        if not part.startswith("layers."):
            return [f"{part}.{kind}"]
        _, number, piece = part.split(".")
        return [f"{self.layer}.{number}.{source}.{kind}" for source in self.layer_parts[piece]]


def load_encoder_weights(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    names: NameMap,
    labels_tokens: bool = False,
    new_head: bool = False,
    tied: bool = False,
) -> None:
    """Copy a checkpoint's tensors into ``model``, cast to its dtype.

    With ``tied``, the embedding may be stored as the head for masked words alone.

    With ``new_head``, for training, the head keeps what it has and the checkpoint's is left aside.

    Raises:
        ConfigError: a tensor is missing, unknown, there twice, or of another shape than config.json implies.
    """
    stored = stored_names(tensors, lambda name: _normalised(name, names.prefix))
    if tied and names.embedding not in stored and names.tied in stored:
        stored[names.embedding] = stored.pop(names.tied)
    for name, parameter in model.named_parameters():
        sources = names.sources(name, labels_tokens=labels_tokens)
        if new_head and name.startswith("head."):
            for source in sources:
                stored.pop(source, None)
            continue
        rows = parameter.shape[0] // len(sources)
        for place, source in enumerate(sources):
            if source not in stored:
                raise ConfigError(f"the checkpoint lacks the tensor {source}.")
            tensor = tensors[stored.pop(source)]
            target = parameter.detach()[place * rows : (place + 1) * rows]
            if tensor.shape != target.shape:
                raise ConfigError(
                    f"{source} has shape {list(tensor.shape)}, but config.json implies {list(target.shape)}."
                )
            target.copy_(tensor)
    unused = without_leftovers({name for name in stored if not name.startswith(names.left_aside)})
    if unused:
        raise ConfigError(f"the checkpoint holds a tensor this model has no place for: {min(unused)}.")


def named_encoder_weights(
    model: nn.Module, names: NameMap, *, labels_tokens: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of ``model`` under their Hugging Face names, as views without gradient."""
    for name, parameter in model.named_parameters():
        sources = names.sources(name, labels_tokens=labels_tokens)
        for source, tensor in zip(sources, parameter.detach().chunk(len(sources)), strict=True):
            outside = name.startswith("head.") and not source.startswith("pooler.")
            yield source if outside else names.prefix + source, tensor


def _normalised(name: str, prefix: str) -> str:
    name = name.removeprefix(prefix)
    for old, new in _OLD_ENDINGS.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def initialise(model: nn.Module, width: float, generator: torch.Generator | None = None) -> None:
    """Draw matrices from a normal distribution of standard deviation ``width``; biases 0, norms 1."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=width, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            nn.init.zeros_(module.bias)
