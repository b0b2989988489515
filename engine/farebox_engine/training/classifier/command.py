"""The arguments of ``farebox-engine train-classifier``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from farebox_engine.training.classifier.labelled import read_by_label, read_tables
from farebox_engine.training.classifier.model import EncoderShape
from farebox_engine.training.classifier.trainer import ClassifierRecipe, ClassifierRun, train_classifier
from farebox_engine.training.errors import TrainingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments and the command that takes them."""
    parser.set_defaults(command=_run)
    shape, recipe = EncoderShape(), ClassifierRecipe()
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="FILE", help="lines of label<TAB>text"
    )
    parser.add_argument(
        "--texts", nargs="+", default=[], metavar="LABEL=FILE", help="a file for each label, a text a line"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--name", default="A Farebox classifier")
    parser.add_argument(
        "--encoder", type=Path, metavar="DIR", help="the encoder to begin with; default: a new, small one"
    )
    new = parser.add_argument_group("a new encoder")
    new.add_argument("--hidden-size", type=int, default=shape.hidden_size)
    new.add_argument("--layers", type=int, default=shape.layers)
    new.add_argument("--heads", type=int, default=shape.heads)
    new.add_argument("--vocab-size", type=int, default=shape.vocab_size)
    training = parser.add_argument_group("training")
    training.add_argument("--steps", type=int, default=recipe.steps)
    training.add_argument("--batch", type=int, default=recipe.batch, help="texts per step")
    training.add_argument("--learning-rate", type=float, default=recipe.learning_rate)
    training.add_argument("--warmup", type=int, default=recipe.warmup, metavar="STEPS")
    training.add_argument("--dropout", type=float, default=recipe.dropout)
    training.add_argument("--max-length", type=int, default=recipe.max_length, help="tokens per text")
    training.add_argument("--held-out", type=float, default=recipe.held_out, help="share kept for accuracy")
    training.add_argument("--seed", type=int, default=recipe.seed)


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    examples = read_tables(options.data) + read_by_label([_labelled(word) for word in options.texts])
    if not examples:
        raise TrainingError("nothing to train on: give --data or --texts.")
    _check(options)
    run = ClassifierRun(
        examples=examples,
        out=options.out,
        encoder=options.encoder,
        shape=EncoderShape(options.hidden_size, options.layers, options.heads, options.vocab_size),
        recipe=ClassifierRecipe(
            steps=options.steps,
            batch=options.batch,
            learning_rate=options.learning_rate,
            warmup=options.warmup,
            dropout=options.dropout,
            max_length=options.max_length,
            held_out=options.held_out,
            seed=options.seed,
        ),
        name=options.name,
        command=shlex.join(["farebox-engine", *arguments]),
    )
    train_classifier(run, sys.stderr)
    return 0


def _labelled(word: str) -> tuple[str, Path]:
    label, equals, file = word.partition("=")
    if not label or not equals or not file:
        raise TrainingError(f"--texts takes LABEL=FILE, not {word!r}.")
    return label, Path(file)


def _check(options: argparse.Namespace) -> None:
    for name in ("hidden_size", "layers", "heads", "vocab_size", "steps", "batch", "max_length"):
        if getattr(options, name) < 1:
            raise TrainingError(f"--{name.replace('_', '-')} must be at least 1.")
    for name in ("dropout", "held_out"):
        if not 0 <= getattr(options, name) < 1:
            raise TrainingError(f"--{name.replace('_', '-')} must lie between 0 and 1.")
    if options.learning_rate <= 0 or options.warmup < 0:
        raise TrainingError("--learning-rate must be above 0 and --warmup not below it.")
