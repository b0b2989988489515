"""One row of the benchmark: a shape and a batch, our engine and transformers, above the machine's floor."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from farebox_engine.bench.floor import Floor, Machine
from farebox_engine.bench.measure import Reading, compare
from farebox_engine.bench.ours import EngineContender
from farebox_engine.bench.shapes import SHAPES, build_model
from farebox_engine.bench.workload import Contender, Workload
from farebox_engine.options import EngineConfig

Build = Callable[[], Contender]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run of the benchmark holds fixed; `systems` are names of `SYSTEMS`."""

    device: torch.device
    dtype: torch.dtype
    systems: tuple[str, ...]
    rounds: int
    threads: int | None = None


SYSTEMS = ("engine", "engine-int8", "generate", "continuous-batching")


@dataclass(frozen=True, slots=True)
class Row:
    """A shape and workload, the floor of its decode step, and every contender's reading."""

    shape: str
    workload: Workload
    floor: Floor
    readings: list[Reading]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def measure_row(shape: str, workload: Workload, machine: Machine, setting: Setting) -> Row:
    """Build the contenders, let them take turns, and close them."""
    loaded = build_model(SHAPES[shape], setting.device, setting.dtype)
    floor = Floor.of(loaded, machine, workload.batch, workload.context + workload.new_tokens / 2)
    length = workload.context + workload.new_tokens
    contenders: list[Contender] = []
    try:
        if set(setting.systems) & {"generate", "continuous-batching"}:
            reference = importlib.import_module("farebox_engine.bench.reference")
            model = reference.build_reference(SHAPES[shape], loaded)
            if "generate" in setting.systems:
                contenders.append(reference.GenerateContender(model))
            if "continuous-batching" in setting.systems:
                contenders.append(
                    reference.ContinuousBatchingContender(model, batch=workload.batch, length=length)
                )
        for name in ("engine-int8", "engine"):
            if name in setting.systems:
                # Each engine prepares its model's weights for itself.
                own = build_model(SHAPES[shape], setting.device, setting.dtype)
                contenders.insert(0, EngineContender(name, own, _config(name, workload, setting)))
        del loaded
        readings = compare(contenders, workload, SHAPES[shape]["vocab_size"], setting.rounds)
    finally:
        for contender in contenders:
            contender.close()
    return Row(shape, workload, floor, readings)


def _config(system: str, workload: Workload, setting: Setting) -> EngineConfig:
    return EngineConfig(
        device=str(setting.device),
        context_length=workload.context + workload.new_tokens,
        max_running=workload.batch,
        threads=setting.threads,
        quantization="int8" if system == "engine-int8" else None,
    )


def installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
