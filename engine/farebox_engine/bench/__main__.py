"""Time the engine beside transformers on models with random weights.

python -m farebox_engine.bench                          a 135M Llama on the CPU, batches 1 and 8
python -m farebox_engine.bench --shapes qwen3-0.6b --batches 1 8 --device cuda --dtype bfloat16
python -m farebox_engine.bench perplexity               what int8 costs the demo model
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from farebox_engine.bench import perplexity
from farebox_engine.bench.floor import Machine
from farebox_engine.bench.report import machine_line, table, write_json
from farebox_engine.bench.rows import SYSTEMS, Setting, installed, measure_row
from farebox_engine.bench.shapes import SHAPES
from farebox_engine.bench.workload import Workload
from farebox_engine.options import EngineConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the JSON; return 0."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["perplexity"]:
        return perplexity.main(arguments[1:])
    options = _parser().parse_args(arguments)
    config = EngineConfig(device=options.device, dtype=options.dtype, threads=options.threads)
    device = config.torch_device()
    torch.set_num_threads(config.cpu_threads())
    setting = Setting(
        device, config.torch_dtype(device), _systems(options.systems), options.rounds, options.threads
    )
    machine = Machine.measure(device, setting.dtype)
    sys.stdout.write(machine_line(machine, torch.get_num_threads()) + "\n")
    rows = []
    for shape in options.shapes:
        for batch in options.batches:
            workload = Workload(batch, options.context, options.new_tokens)
            rows.append(measure_row(shape, workload, machine, setting))
            sys.stdout.write(table(rows[-1:]) + "\n")
            sys.stdout.flush()
    command = shlex.join(["python", "-m", "farebox_engine.bench", *arguments])
    write_json(options.json, machine, rows, command)
    sys.stdout.write(f"written to {options.json}\n")
    return 0


def _systems(names: list[str] | None) -> tuple[str, ...]:
    if names is not None:
        return tuple(names)
    if not installed("transformers"):
        sys.stderr.write("transformers is not installed: the engine is measured alone.\n")
        return ("engine",)
    return ("engine", "generate", "continuous-batching")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m farebox_engine.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=["smollm-135m"])
    parser.add_argument("--batches", nargs="+", type=_count, default=[1, 8])
    parser.add_argument("--context", type=_count, default=128, help="tokens of each prompt")
    parser.add_argument("--new-tokens", type=_at_least_two, default=32)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=_count, help="default: the number of physical cores")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="default: all but int8")
    parser.add_argument("--rounds", type=_count, default=3)
    parser.add_argument("--json", type=Path, default=Path("engine-bench.json"), metavar="FILE")
    return parser


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _at_least_two(text: str) -> int:
    if _count(text) < 2:
        raise argparse.ArgumentTypeError("must be at least 2, to tell steps from the first token")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
