"""Everything that only a GPU can show, in one go: right results, what narrow numbers cost, then speed.

python -m farebox_engine.bench gpu                 exit status 1 if a row was wrong or failed
python -m farebox_engine.bench gpu --device cpu    a rehearsal: what needs a GPU fails and is reported

Each row has a process of its own and a time limit, so that one that fails or hangs is reported and
the others go on. Rows for which no time is left are skipped.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from farebox_engine import demo
from farebox_engine.bench import accuracy
from farebox_engine.bench.decoding.contender_process import ContenderSpec, Setting, usable_systems
from farebox_engine.bench.decoding.floor import Floor, Machine
from farebox_engine.bench.decoding.report import machine_line, table, write_json
from farebox_engine.bench.decoding.rows import Row, measure_alone
from farebox_engine.bench.decoding.shapes import SHAPES, describe
from farebox_engine.bench.decoding.workload import Workload
from farebox_engine.bench.gpu.checks import (
    check_engine,
    check_narrow_kernels,
    check_paged_kernels,
    measure_prefill_row,
)
from farebox_engine.bench.gpu.prefill import PrefillRow
from farebox_engine.bench.limited_process import LimitedProcess, Say
from farebox_engine.training.arguments import told

# The rows that the targets are about come first, for all shapes.
_SYSTEMS = (("engine", "continuous-batching"), ("engine-int8", "engine-fp8"))
_PARTS = ("checks", "accuracy", "prefill", "speed")
_CHECK_SECONDS, _ROW_SECONDS, _LEAST_SECONDS = 150.0, 80.0, 15.0
_PIECES = 40


@dataclass(slots=True)
class _Run:
    """What has come of a run so far; `end` is when it must be over, by `time.perf_counter`."""

    device: torch.device
    end: float
    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    costs: list[accuracy.Accuracy] = field(default_factory=list)
    prefill: PrefillRow | None = None

    def fail(self, name: str, why: str) -> None:
        self.failures.append(f"{name}: {why}")
        _say(f"FAILED {name}: {why}")


def main(arguments: Sequence[str]) -> int:
    """Check, measure, print and write; return 0, 1 if a row was wrong or failed, 2 without a GPU."""
    options = _parser().parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("There is no GPU that torch can use here.\n")
        return 2
    started = time.perf_counter()
    run = _Run(torch.device(options.device), started + options.seconds)
    _check(run, options.parts)
    if "prefill" in options.parts:
        _prefill(run)
    command = shlex.join(["python", "-m", "farebox_engine.bench", "gpu", *arguments])
    _time(run, options, command)
    for line in (*(f"FAILED {why}" for why in run.failures), *(f"skipped {why}" for why in run.skipped)):
        _say(line)
    _say(f"done in {time.perf_counter() - started:.0f} s; written to {options.json}")
    return 1 if run.failures else 0


def _time(run: _Run, options: argparse.Namespace, command: str) -> None:
    """The systems' speed, one after the other; the file is whole after each."""
    cuda = run.device.type == "cuda"
    dtype = torch.bfloat16 if cuda else torch.float32
    machine = Machine.measure(run.device, dtype)
    _say(machine_line(machine, torch.get_num_threads()))
    if cuda:
        torch.cuda.empty_cache()
    setting = Setting(run.device, dtype, rounds=1, threads=torch.get_num_threads())
    workloads = tuple(Workload(batch, options.context, options.new_tokens) for batch in options.batches)
    if "speed" in options.parts:
        run.rows = [
            Row(shape, workload, Floor.of(*describe(SHAPES[shape]), dtype, machine, workload), [])
            for shape in options.shapes
            for workload in workloads
        ]
    for spec in _specs(options.shapes, workloads, setting) if run.rows else ():
        _measure(run, spec)
        _write(run, options.json, machine, command)
    _write(run, options.json, machine, command)
    _say(table(run.rows))


def _write(run: _Run, path: Path, machine: Machine, command: str) -> None:
    costs = [asdict(cost) for cost in run.costs]
    write_json(
        path,
        machine,
        run.rows,
        command,
        failures=run.failures,
        skipped=run.skipped,
        accuracy=costs,
        prefill=None if run.prefill is None else asdict(run.prefill),
    )


def _check(run: _Run, parts: Sequence[str]) -> None:
    """The checks and the accuracy, side by side: none of them is timed."""
    works: list[tuple[str, str, Callable[..., object]]] = [
        ("checks", "kernels of decoding", check_paged_kernels),
        ("checks", "kernels of narrow products", check_narrow_kernels),
        ("checks", "engine", check_engine),
        ("accuracy", "accuracy", _accuracy),
    ]
    tasks = [LimitedProcess(name, work, run.device) for part, name, work in works if part in parts]
    deadline = min(time.perf_counter() + _CHECK_SECONDS, run.end)
    for task in tasks:
        why = task.finish(deadline, _say)
        if why is not None:
            run.fail(task.name, why)
        elif task.name == "accuracy":
            run.costs = task.result


def _prefill(run: _Run) -> None:
    """Prompts of many lengths in one step; by itself, since it is timed."""
    task = LimitedProcess("prefill", measure_prefill_row, run.device)
    why = task.finish(min(time.perf_counter() + _ROW_SECONDS, run.end), _say)
    if why is not None:
        run.fail(task.name, why)
    else:
        run.prefill = task.result


def _accuracy(say: Say, device: torch.device) -> list[accuracy.Accuracy]:
    readings = list(accuracy.measure(demo.path(), accuracy.held_out_text(), device, _PIECES))
    say(accuracy.table(readings))
    return readings


def _specs(
    shapes: Sequence[str], workloads: tuple[Workload, ...], setting: Setting
) -> Iterator[ContenderSpec]:
    for systems in _SYSTEMS:
        for shape in shapes:
            for system in usable_systems(systems):
                yield ContenderSpec(system, shape, workloads, setting)


def _measure(run: _Run, spec: ContenderSpec) -> None:
    """One system on one shape: its readings join the rows as they come."""
    name = f"{spec.shape} {spec.system}"
    started = time.perf_counter()
    if run.end - started < _LEAST_SECONDS:
        run.skipped.append(f"{name}: no time left")
        return
    vocab_size = int(SHAPES[spec.shape]["vocab_size"])
    try:
        for workload, reading in measure_alone(spec, vocab_size, min(started + _ROW_SECONDS, run.end)):
            (row,) = (each for each in run.rows if (each.shape, each.workload) == (spec.shape, workload))
            row.readings.append(reading)
            _say(f"{name}, batch {workload.batch}: {1e3 * reading.step_median:.2f} ms/step")
    except (RuntimeError, ValueError, OSError) as error:
        run.fail(name, str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m farebox_engine.bench gpu",
        description=told(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shapes = ["qwen3-0.6b", "llama-3.1-8b", "qwen3-1.7b"]
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=shapes)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64, 256])
    parser.add_argument("--context", type=int, default=1024, help="tokens of each prompt")
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--seconds", type=float, default=470, help="all rows are over by then")
    parser.add_argument("--json", type=Path, default=Path("engine-bench-gpu.json"), metavar="FILE")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
