"""The arguments of ``farebox-engine train-translator``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from farebox_engine.config import EngineConfig
from farebox_engine.training.arguments import count, positive, share
from farebox_engine.training.recipe import Recipe
from farebox_engine.training.translation.shape import TranslatorShape
from farebox_engine.training.translation.trainer import TranslationRun, train_translator


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments and the command that takes them."""
    parser.set_defaults(command=_run)
    shape = TranslatorShape()
    parser.add_argument(
        "--pairs", type=Path, required=True, metavar="FILE", help="UTF-8 lines of source<TAB>target"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--held-out", type=share, default=0.02, help="share of the sources kept for scoring")
    parser.add_argument("--vocab-size", type=count, default=4096)
    parser.add_argument("--hidden-size", type=count, default=shape.hidden_size)
    parser.add_argument("--feed-forward", type=count, default=shape.feed_forward)
    parser.add_argument("--layers", type=count, default=shape.layers, help="of encoder and decoder each")
    parser.add_argument("--heads", type=count, default=shape.heads)
    parser.add_argument("--context", type=count, default=128, help="most tokens of a source or a target")
    parser.add_argument("--batch", type=count, default=64, help="pairs per step")
    parser.add_argument("--steps", type=count, default=2000)
    parser.add_argument("--warmup", type=count, default=200, metavar="STEPS")
    parser.add_argument("--learning-rate", type=positive, default=1e-3)
    parser.add_argument("--dropout", type=share, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def _run(options: argparse.Namespace, _: Sequence[str]) -> int:
    recipe = Recipe(
        context=options.context,
        batch=options.batch,
        steps=options.steps,
        warmup=options.warmup,
        learning_rate=options.learning_rate,
        final_learning_rate=options.learning_rate / 20,
        weight_decay=0.01,
        dropout=options.dropout,
        held_out=options.held_out,
        seed=options.seed,
    )
    shape = TranslatorShape(options.hidden_size, options.feed_forward, options.layers, options.heads)
    device = EngineConfig(device=options.device).torch_device()
    run = TranslationRun(options.pairs, options.out, shape, recipe, options.vocab_size, device)
    train_translator(run, sys.stderr)
    return 0
