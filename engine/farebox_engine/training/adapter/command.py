"""The arguments of ``farebox-engine train-adapter``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from farebox_engine.config import EngineConfig
from farebox_engine.training.adapter.model import AdapterShape
from farebox_engine.training.adapter.trainer import AdapterRun, train_adapter
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments and the command that takes them."""
    parser.set_defaults(command=_run)
    shape = AdapterShape()
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="the base model")
    parser.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="plain UTF-8 text")
    parser.add_argument(
        "--chat", type=Path, nargs="+", default=[], metavar="FILE", help='JSON lines {"messages": [...]}'
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rank", type=int, default=shape.rank)
    parser.add_argument("--alpha", type=float, default=shape.alpha)
    parser.add_argument(
        "--targets", nargs="+", default=[], metavar="NAME", help="projections to adapt; default: all of them"
    )
    parser.add_argument("--held-out", type=float, default=0.02, help="share kept for perplexity")
    parser.add_argument("--context", type=int, default=512, help="most tokens of an example")
    parser.add_argument("--batch", type=int, default=8, help="examples per step")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--warmup", type=int, default=20, metavar="STEPS")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: a GPU where there is one")


def _run(options: argparse.Namespace, _: Sequence[str]) -> int:
    if not options.text and not options.chat:
        raise TrainingError("nothing to train on: give --text or --chat.")
    _check(options)
    run = AdapterRun(
        base=options.model,
        texts=options.text,
        chats=options.chat,
        out=options.out,
        shape=AdapterShape(options.rank, options.alpha, frozenset(options.targets)),
        recipe=Recipe(
            context=options.context,
            batch=options.batch,
            steps=options.steps,
            warmup=options.warmup,
            learning_rate=options.learning_rate,
            final_learning_rate=options.learning_rate / 10,
            weight_decay=options.weight_decay,
            held_out=options.held_out,
            seed=options.seed,
        ),
        engine=EngineConfig(device=options.device),
    )
    train_adapter(run, sys.stderr)
    return 0


def _check(options: argparse.Namespace) -> None:
    for name in ("rank", "context", "batch", "steps"):
        if getattr(options, name) < 1:
            raise TrainingError(f"--{name} must be at least 1.")
    if not 0 <= options.held_out < 1:
        raise TrainingError("--held-out must lie between 0 and 1.")
    if options.learning_rate <= 0 or options.alpha <= 0:
        raise TrainingError("--learning-rate and --alpha must be above 0.")
    if options.warmup < 0 or options.weight_decay < 0:
        raise TrainingError("--warmup and --weight-decay must not be below 0.")
