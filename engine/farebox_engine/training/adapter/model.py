"""A LoRA adapter that is being trained on a frozen base model, and its folder in peft's format."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from farebox_engine.lora.adapter import LowRank
from farebox_engine.lora.batch import Group, attach
from farebox_engine.lora.config import FILE_NAME
from farebox_engine.lora.reading import PREFIX, WEIGHTS_NAME, Place, adaptable
from farebox_engine.models.loader import LoadedModel
from farebox_engine.models.weights import weight_slots
from farebox_engine.training.errors import TrainingError

# A router of experts is no projection in transformers 5, and would not load there.
_LEFT_ALONE = frozenset({"gate"})


@dataclass(frozen=True, slots=True)
class AdapterShape:
    """`targets` are names of modules; none stands for every projection of the decoder's layers."""

    rank: int = 16
    alpha: float = 32.0
    targets: frozenset[str] = frozenset()


class TrainableAdapter(nn.Module):
    """The two matrices of every target, fp32, beginning as no change at all."""

    def __init__(self, loaded: LoadedModel, shape: AdapterShape) -> None:
        """Raises `TrainingError` if the model lacks a target."""
        super().__init__()
        self._shape = shape
        model = loaded.model
        if not isinstance(model, nn.Module):
            raise TrainingError("this model takes no adapters.")
        self.places = _places(model, loaded, shape.targets)
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for place in self.places:
            down = torch.empty(shape.rank, place.columns)
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))
            self.down.append(nn.Parameter(down))
            self.up.append(nn.Parameter(torch.zeros(place.slot.stop - place.slot.start, shape.rank)))
        for path in {place.path for place in self.places}:
            attach(model.get_submodule(path), path)
        self.to(loaded.device)

    def group(self) -> Group:
        """The adapter as it is now, for every row of a batch; gradients reach the matrices."""
        scale = self._shape.alpha / self._shape.rank
        matrices: dict[str, tuple[LowRank, ...]] = {}
        for place, down, up in zip(self.places, self.down, self.up, strict=True):
            part = LowRank(down, up * scale, place.slot.start, place.slot.stop)
            matrices[place.path] = (*matrices.get(place.path, ()), part)
        return Group(matrices, None)

    def write(self, folder: Path, base: Path) -> None:
        """Write what peft and `Engine.load_adapter` read."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for place, down, up in zip(self.places, self.down, self.up, strict=True):
            for half, matrix in (("A", down), ("B", up)):
                tensors[f"{PREFIX}{place.source}.lora_{half}.weight"] = matrix.detach().cpu().contiguous()
        save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
        # safetensors writes for the owner only; see `write_model`.
        (folder / WEIGHTS_NAME).chmod(0o644)
        (folder / FILE_NAME).write_text(json.dumps(self._description(base), indent=2) + "\n")

    def _description(self, base: Path) -> dict[str, object]:
        return {
            "base_model_name_or_path": str(base),
            "bias": "none",
            "fan_in_fan_out": all(place.slot.transposed for place in self.places),
            "inference_mode": True,
            "lora_alpha": self._shape.alpha,
            "lora_dropout": 0.0,
            "peft_type": "LORA",
            "r": self._shape.rank,
            "target_modules": sorted({_leaf(place.source) for place in self.places}),
            "task_type": "CAUSAL_LM",
            "use_rslora": False,
        }


def _places(model: nn.Module, loaded: LoadedModel, targets: Collection[str]) -> list[Place]:
    every = list(adaptable(model, weight_slots(model, loaded.naming)))
    known = {_leaf(place.source) for place in every} - _LEFT_ALONE
    unknown = set(targets) - known
    if unknown:
        raise TrainingError(
            f"the base model has no projection {min(unknown)}; it has {', '.join(sorted(known))}."
        )
    return [place for place in every if _leaf(place.source) in (targets or known)]


def _leaf(path: str) -> str:
    return path.rpartition(".")[2]
