"""How Hugging Face names a Llama's weights, and where they lie in the fused parameters here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from farebox_engine.config import ConfigError, DecoderConfig
from farebox_engine.models.llama import LlamaForCausalLM


@dataclass(frozen=True, slots=True)
class Slot:
    """Rows ``start`` to ``stop`` of parameter ``name``, where one tensor of the checkpoint goes."""

    name: str
    start: int
    stop: int


def weight_slots(model: LlamaForCausalLM) -> dict[str, Slot]:
    """Map every tensor name of a Hugging Face checkpoint to its place in ``model``.

    A tied ``lm_head.weight`` is absent: the embedding stands for it.
    """
    fused = _fused_projections(model.config)
    slots: dict[str, Slot] = {}
    for name, parameter in model.named_parameters():
        path, _, kind = name.rpartition(".")
        parent, _, module = path.rpartition(".")
        start = 0
        for source, rows in fused.get(module, {module: parameter.shape[0]}).items():
            slots[_source_name(parent, source, kind)] = Slot(name, start, start + rows)
            start += rows
    return slots


def load_weights(model: LlamaForCausalLM, tensors: Mapping[str, Tensor]) -> None:
    """Copy a checkpoint's tensors into ``model``, cast to the model's dtype.

    Raises:
        ConfigError: a tensor is missing, unknown, or of another shape than config.json implies.
    """
    slots = weight_slots(model)
    unused = tensors.keys() - slots.keys() - _ignorable(model.config, tensors)
    if unused:
        raise ConfigError(f"the checkpoint holds a tensor this model has no place for: {min(unused)}.")
    missing = slots.keys() - tensors.keys()
    if missing:
        raise ConfigError(f"the checkpoint lacks the tensor {min(missing)}.")
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for source, slot in slots.items():
            target = parameters[slot.name][slot.start : slot.stop]
            tensor = tensors[source]
            if tensor.shape != target.shape:
                raise ConfigError(
                    f"{source} has shape {list(tensor.shape)}, but config.json implies {list(target.shape)}."
                )
            target.copy_(tensor)


def named_weights(model: LlamaForCausalLM) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of ``model`` under their Hugging Face names, as views without gradient."""
    parameters = dict(model.named_parameters())
    for source, slot in weight_slots(model).items():
        yield source, parameters[slot.name].detach()[slot.start : slot.stop]


def _fused_projections(config: DecoderConfig) -> dict[str, dict[str, int]]:
    """Fused module -> its parts in row order, each with its number of rows."""
    query, key_value = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return {
        "qkv_proj": {"q_proj": query, "k_proj": key_value, "v_proj": key_value},
        "gate_up_proj": {"gate_proj": config.intermediate_size, "up_proj": config.intermediate_size},
    }


def _source_name(parent: str, module: str, kind: str) -> str:
    path = f"{parent}.{module}" if parent else module
    return f"{path}.{kind}" if module == "lm_head" else f"model.{path}.{kind}"


def _ignorable(config: DecoderConfig, tensors: Mapping[str, Tensor]) -> set[str]:
    """What old exports carry along: rotary buffers, and the tied head a second time."""
    ignorable = {name for name in tensors if name.endswith(".rotary_emb.inv_freq")}
    return ignorable | ({"lm_head.weight"} if config.tie_word_embeddings else set())
