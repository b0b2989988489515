"""The benchmark's table and its JSON."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from farebox_engine.bench.decoding.floor import Machine
from farebox_engine.bench.decoding.measure import Reading
from farebox_engine.bench.decoding.rows import Row


def machine_line(machine: Machine, threads: int) -> str:
    return (
        f"{machine.name}, {threads} threads: reads {machine.bytes_per_second / 1e9:.1f} GB/s, "
        f"computes {machine.operations_per_second / 1e12:.3f} T operations/s; torch {torch.__version__}"
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown: milliseconds a step (medians), tokens/s of the batch, and how much slower than ours.

    The ratio is the median over the rounds of what each took beside what our engine took in the
    same round, so that a machine's moods cancel out.
    """
    lines = [
        "| shape | batch | context | system | first token ms | ms/step | tokens/s | of floor | engine is |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        load = row.workload
        head = f"| {row.shape} | {load.batch} | {load.context} "
        floor = row.floor.seconds
        lines.append(f"{head}| floor | | {1e3 * floor:.2f} | {load.batch / floor:,.0f} | 1.00 | |")
        for reading in row.readings:
            step = reading.step_median
            lines.append(
                f"{head}| {reading.name} | {1e3 * reading.first_median:.1f} | {1e3 * step:.2f} "
                f"| {load.batch / step:,.0f} | {floor / step:.2f} | {_ratio(row.readings[0], reading)} |"
            )
    return "\n".join(lines)


def write_json(path: Path, machine: Machine, rows: Sequence[Row], command: str, **more: object) -> None:
    """Write what was measured; `more` are further entries."""
    document = {
        "command": command,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": asdict(machine),
        "rows": [row.as_json() for row in rows],
    } | more
    path.write_text(json.dumps(document, indent=1) + "\n")


def _ratio(ours: Reading, other: Reading) -> str:
    # Where the engine itself failed, there is nothing to compare with.
    if ours is other or not ours.name.startswith("engine"):
        return ""
    ratio = statistics.median(b / a for a, b in zip(ours.step, other.step, strict=True))
    return f"{ratio:.2f}x as fast"
