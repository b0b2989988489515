"""A contender in a process of its own: neither its threads nor its memory are in the others' way."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from farebox_engine.bench.decoding.engine_contender import EngineContender
from farebox_engine.bench.decoding.shapes import SHAPES, build_model
from farebox_engine.bench.decoding.workload import Answer, Contender, Workload
from farebox_engine.bench.limited_process import end_process
from farebox_engine.config import EngineConfig
from farebox_engine.errors import LoadError
from farebox_engine.machine import single_threaded
from farebox_engine.quantization.prepare import check_quantization

SYSTEMS = ("engine", "engine-int8", "engine-fp8", "generate", "continuous-batching")
_OURS: dict[str, str | None] = {"engine": None, "engine-int8": "int8", "engine-fp8": "fp8"}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run of the benchmark holds fixed."""

    device: torch.device
    dtype: torch.dtype
    rounds: int
    threads: int


@dataclass(frozen=True, slots=True)
class ContenderSpec:
    """Which system answers for which shape; `workloads` are all that it will meet."""

    system: str
    shape: str
    workloads: tuple[Workload, ...]
    setting: Setting


class ContenderProcess:
    """A contender whose work is done in a child process; opened by the constructor.

    A child that has not answered by `deadline`, by `time.perf_counter`, counts as failed.
    """

    def __init__(self, spec: ContenderSpec, deadline: float | None = None) -> None:
        self.name = spec.system
        self._deadline = deadline
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(spec, theirs), daemon=True)
        process.start()
        self._process = process
        theirs.close()
        try:
            self._receive()
        except RuntimeError:
            self.close()
            raise

    def answer(self, prompts: list[list[int]], new_tokens: int) -> list[Answer]:
        """See `Contender.answer`; `time.perf_counter` is the same clock in all processes of a Linux machine.

        Raises:
            RuntimeError: the contender failed; the child's words.
        """
        self._connection.send((prompts, new_tokens))
        return self._receive()

    def close(self) -> None:
        """Let the child end, and wait for it; one that is past its deadline is killed."""
        self._connection.close()
        if self._deadline is None:
            self._process.join()
        else:
            end_process(self._process)

    def _receive(self) -> list[Answer]:
        if self._deadline is not None and not self._connection.poll(
            max(0.0, self._deadline - time.perf_counter())
        ):
            self._process.kill()
            raise RuntimeError(f"{self.name} took too long and was stopped.")
        try:
            found: list[Answer] | str = self._connection.recv()
        except EOFError:
            raise RuntimeError(f"The process of {self.name} died.") from None
        if isinstance(found, str):
            raise RuntimeError(f"{self.name}: {found}")
        return found


def _serve(spec: ContenderSpec, connection: Connection) -> None:
    """The child: build the contender, then answer until the parent hangs up."""
    torch.set_num_threads(spec.setting.threads)
    contender: Contender | None = None
    try:
        contender = build_contender(spec)
        connection.send([])
        while True:
            connection.send(contender.answer(*connection.recv()))
    except EOFError:
        pass
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        raise
    finally:
        if contender is not None:
            contender.close()


def build_contender(spec: ContenderSpec) -> Contender:
    """The contender itself, in this process."""
    setting, shape = spec.setting, SHAPES[spec.shape]
    batch = max(workload.batch for workload in spec.workloads)
    length = max(workload.context + workload.new_tokens for workload in spec.workloads)
    with single_threaded():
        loaded = build_model(shape, setting.device, setting.dtype)
    if spec.system in _OURS:
        config = EngineConfig(
            device=str(setting.device),
            context_length=length,
            max_running=batch,
            threads=setting.threads,
            quantization=_OURS[spec.system],
        )
        return EngineContender(spec.system, loaded, config)
    # By name, because transformers is only there where somebody compares.
    reference = importlib.import_module("farebox_engine.bench.decoding.transformers_contenders")
    model = reference.build_reference(shape, loaded)
    del loaded
    contender: Contender
    if spec.system == "generate":
        contender = reference.GenerateContender(model)
    else:
        contender = reference.ContinuousBatchingContender(model, batch=batch, length=length)
    return contender


def computable_systems(device: torch.device) -> tuple[str, ...]:
    """All systems but those whose numbers `device` cannot compute in."""
    return tuple(system for system in SYSTEMS if _is_computable(_OURS.get(system), device))


def _is_computable(quantization: str | None, device: torch.device) -> bool:
    try:
        check_quantization(quantization, device)
    except LoadError:
        return False
    return True


def usable_systems(systems: Sequence[str]) -> tuple[str, ...]:
    """Those of `systems` for which everything is installed."""
    if importlib.util.find_spec("transformers") is not None:
        return tuple(systems)
    return tuple(system for system in systems if system in _OURS)
