"""Random adapters in peft's folder format, and base models with an adapter merged into their weights."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tests.engine.generating import load_reference

# As peft 0.17 writes it; what is not named here is absent, null, false or empty.
DESCRIPTION: dict[str, Any] = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "tiny",
    "bias": "none",
    "corda_config": None,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_bias": False,
    "lora_dropout": 0.05,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "peft_type": "LORA",
    "qalora_group_size": 16,
    "rank_pattern": {},
    "revision": None,
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}


def build_adapter(
    folder: Path, base: Path, targets: list[str], *, rank: int = 4, seed: int = 0, **settings: Any
) -> Path:
    """Write an adapter of every module of the checkpoint `base` whose name is among `targets`."""
    folder.mkdir(parents=True)
    description = DESCRIPTION | {"r": rank, "lora_alpha": 2 * rank, "target_modules": targets} | settings
    (folder / "adapter_config.json").write_text(json.dumps(description))
    generator = torch.Generator().manual_seed(seed)
    layers = settings.get("layers_to_transform")
    tensors: dict[str, Tensor] = {}
    for path, module in load_reference(base).named_modules():
        if path.rpartition(".")[2] not in targets or not isinstance(module, nn.Linear | Conv1D):
            continue
        if layers is not None and not any(f".{layer}." in path for layer in layers):
            continue
        rows, columns = module.weight.shape if isinstance(module, nn.Linear) else module.weight.t().shape
        prefix = f"base_model.model.{path}"
        tensors[f"{prefix}.lora_A.weight"] = torch.randn(rank, columns, generator=generator) / columns**0.5
        tensors[f"{prefix}.lora_B.weight"] = torch.randn(rows, rank, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def merged(base: Path, adapter: Path) -> PreTrainedModel:
    """`base` in transformers with W + scale * B A for every W that `adapter` has."""
    description: Mapping[str, Any] = json.loads((adapter / "adapter_config.json").read_text())
    rank = description["r"]
    scale = description["lora_alpha"] / (math.sqrt(rank) if description["use_rslora"] else rank)
    model = load_reference(base)
    tensors = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        for name in [name for name in tensors if name.endswith(".lora_A.weight")]:
            module: Any = model.get_submodule(
                name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            )
            delta = scale * tensors[name.replace("lora_A", "lora_B")] @ tensors[name]
            module.weight += delta.t() if isinstance(module, Conv1D) else delta
    return model
