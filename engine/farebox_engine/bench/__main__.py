"""Time the engine beside transformers on models with random weights.

python -m farebox_engine.bench                          a 135M Llama on the CPU, batches 1 and 8
python -m farebox_engine.bench --shapes qwen3-0.6b --batches 1 8 --device cuda --dtype bfloat16
python -m farebox_engine.bench accuracy                 what int8 and fp8 cost the demo model
python -m farebox_engine.bench encoders                 embeddings, beside sentence-transformers
python -m farebox_engine.bench gpu                      all that needs a GPU: checks first, then speed
python -m farebox_engine.bench speculation              decoding with drafts and without
python -m farebox_engine.bench translation MODEL        a trained translator, beside transformers
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from farebox_engine.bench.decoding.contender_process import (
    SYSTEMS,
    Setting,
    computable_systems,
    usable_systems,
)
from farebox_engine.bench.decoding.floor import Machine
from farebox_engine.bench.decoding.report import machine_line, table, write_json
from farebox_engine.bench.decoding.rows import measure_shape
from farebox_engine.bench.decoding.shapes import SHAPES
from farebox_engine.bench.decoding.workload import Workload
from farebox_engine.config import EngineConfig
from farebox_engine.training.arguments import told

_OTHERS = {
    "accuracy": "accuracy",
    "encoders": "encoders",
    "gpu": "gpu.command",
    "speculation": "speculation",
    "translation": "translation",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the JSON; return 0."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in _OTHERS:
        return _run_other(arguments[0], arguments[1:])
    options = _parser().parse_args(arguments)
    config = EngineConfig(device=options.device, dtype=options.dtype, threads=options.threads)
    device = config.torch_device()
    setting = Setting(device, config.torch_dtype(device), options.rounds, config.cpu_threads())
    torch.set_num_threads(setting.threads)
    wanted = options.systems or computable_systems(device)
    systems = usable_systems(wanted)
    if len(systems) < len(wanted):
        sys.stderr.write("transformers is not installed: the engine is measured alone.\n")
    machine = Machine.measure(device, setting.dtype)
    sys.stdout.write(machine_line(machine, setting.threads) + "\n")
    workloads = [Workload(batch, options.context, options.new_tokens) for batch in options.batches]
    rows = []
    for shape in options.shapes:
        rows.extend(measure_shape(shape, workloads, systems, machine, setting))
    sys.stdout.write(table(rows) + "\n")
    command = shlex.join(["python", "-m", "farebox_engine.bench", *arguments])
    write_json(options.json, machine, rows, command)
    sys.stdout.write(f"written to {options.json}\n")
    return 0


def _run_other(name: str, arguments: Sequence[str]) -> int:
    # By name, because some compare with what is not installed everywhere.
    try:
        module = importlib.import_module(f"farebox_engine.bench.{_OTHERS[name]}")
        return int(module.main(arguments))
    except ModuleNotFoundError as error:
        sys.stderr.write(f"The benchmark needs {error.name}, which is not installed.\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m farebox_engine.bench",
        description=told(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=["smollm-135m"])
    parser.add_argument("--batches", nargs="+", type=_count, default=[1, 8])
    parser.add_argument("--context", type=_count, default=128, help="tokens of each prompt")
    parser.add_argument("--new-tokens", type=_at_least_two, default=48)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=_count, help="default: the number of physical cores")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, help="default: all for this device")
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
