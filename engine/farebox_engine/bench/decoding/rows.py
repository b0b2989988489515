"""The benchmark's rows: a shape and a batch, our engine and transformers, above the machine's floor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from farebox_engine.bench.decoding.contender_process import ContenderProcess, ContenderSpec, Setting
from farebox_engine.bench.decoding.floor import Floor, Machine
from farebox_engine.bench.decoding.measure import Reading, compare
from farebox_engine.bench.decoding.shapes import SHAPES, describe
from farebox_engine.bench.decoding.workload import Workload


@dataclass(frozen=True, slots=True)
class Row:
    """A shape and workload, the floor of its decode step, and every system's reading."""

    shape: str
    workload: Workload
    floor: Floor
    readings: list[Reading]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def measure_shape(
    shape: str, workloads: Sequence[Workload], systems: Sequence[str], machine: Machine, setting: Setting
) -> list[Row]:
    """A row for each workload.

    On a CPU the systems take turns, because the machine may have other work; on a GPU, which
    has none, one follows the other, because each may fill the memory.
    """
    config, parameters = describe(SHAPES[shape])
    together = [list(systems)] if setting.device.type == "cpu" else [[system] for system in systems]
    readings: list[list[Reading]] = [[] for _ in workloads]
    for group in together:
        contenders: list[ContenderProcess] = []
        try:
            for system in group:
                contenders.append(ContenderProcess(ContenderSpec(system, shape, tuple(workloads), setting)))
            for workload, found in zip(workloads, readings, strict=True):
                found.extend(compare(contenders, workload, config.vocab_size, setting.rounds))
        finally:
            for contender in contenders:
                contender.close()
    return [
        Row(shape, workload, Floor.of(config, parameters, setting.dtype, machine, workload), found)
        for workload, found in zip(workloads, readings, strict=True)
    ]


def measure_alone(
    spec: ContenderSpec, vocab_size: int, deadline: float
) -> Iterator[tuple[Workload, Reading]]:
    """What one system makes of its workloads, one after the other; it must be done by `deadline`.

    Raises:
        RuntimeError: it failed or took too long; what it did before has been yielded.
        ValueError: see `seconds_per_step`.
    """
    contender = ContenderProcess(spec, deadline)
    try:
        for workload in spec.workloads:
            (reading,) = compare([contender], workload, vocab_size, spec.setting.rounds)
            yield workload, reading
    finally:
        contender.close()
