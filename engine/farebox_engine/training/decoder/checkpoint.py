"""Checkpoints a killed run resumes from: safetensors and JSON, never a pickle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from farebox_engine.training.errors import TrainingError

_TENSORS = "tensors.safetensors"
_STATE = "state.json"
_KEPT = 2


class CheckpointStore:
    """Numbered checkpoints in one folder; a half-written one is never mistaken for a whole one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def newest(self) -> int | None:
        """Return the step of the newest checkpoint, None where there is none."""
        return max(self._steps(), default=None)

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        fingerprint: Mapping[str, object],
    ) -> None:
        """Write the state after ``step`` steps, then drop all but the newest two checkpoints."""
        partial = self._folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(_collect(model, optimizer), partial / _TENSORS)
        (partial / _STATE).write_text(json.dumps({"step": step, "fingerprint": fingerprint}, indent=2))
        target = self._path(step)
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        for old in sorted(self._steps())[:-_KEPT]:
            shutil.rmtree(self._path(old))

    def load(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        fingerprint: Mapping[str, object],
    ) -> None:
        """Restore model, optimizer and random state as they were after ``step`` steps.

        Raises:
            TrainingError: the checkpoint is damaged or was made with other settings or data.
        """
        path = self._path(step)
        try:
            state = json.loads((path / _STATE).read_text())
            tensors = load_file(path / _TENSORS)
        except (OSError, ValueError, SafetensorError) as error:
            raise TrainingError(f"the checkpoint {path} cannot be read: {error}.") from error
        changed = _difference(state["fingerprint"], fingerprint)
        if changed:
            raise TrainingError(
                f"the checkpoint {path} was made with another {changed}; resume with the same, or start anew."
            )
        _restore(tensors, model, optimizer)

    def _steps(self) -> list[int]:
        return [int(path.name.removeprefix("step-")) for path in self._folder.glob("step-*")]

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"


def _collect(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value
    return tensors


def _restore(tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            for key in ("step", "exp_avg", "exp_avg_sq"):
                value = tensors[f"optimizer.{key}.{name}"]
                # A fused optimizer wants its step counter beside the parameter.
                optimizer.state[parameter][key] = value.to(parameter.device)
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])


def _difference(then: Mapping[str, object], now: Mapping[str, object]) -> str | None:
    """Name the first setting that differs, None where all agree."""
    for key in now:
        old, new = then.get(key), now[key]
        if isinstance(old, dict) and isinstance(new, dict):
            inner = _difference(old, new)
            if inner:
                return inner
        elif old != new:
            return "training text" if key == "stream" else key.replace("_", " ")
    return None
