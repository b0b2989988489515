"""The arguments of ``farebox-engine train``."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from farebox_engine.training.arguments import count, positive, share
from farebox_engine.training.decoder.export import DTYPES
from farebox_engine.training.decoder.run import DecoderRun, train_decoder
from farebox_engine.training.decoder.shape import ModelShape
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments and the command that takes them."""
    parser.set_defaults(command=_run)
    shape, recipe = ModelShape(), Recipe()
    data = parser.add_argument_group("data")
    data.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="plain UTF-8 text")
    data.add_argument(
        "--chat", type=Path, nargs="+", default=[], metavar="FILE", help='JSON lines {"messages": [...]}'
    )
    data.add_argument("--held-out", type=share, default=recipe.held_out, help="share kept for perplexity")
    data.add_argument("--data-card", type=Path, metavar="FILE", help="Markdown on sources and licences")

    target = parser.add_argument_group("output")
    target.add_argument("--out", type=Path, required=True, metavar="DIR")
    target.add_argument("--name", default="A Farebox model")
    target.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16", help="of the stored weights")
    target.add_argument("--checkpoints", type=Path, metavar="DIR", help="default: OUT/checkpoints")
    target.add_argument("--save-every", type=count, default=250, metavar="STEPS")
    target.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")

    model = parser.add_argument_group("model")
    model.add_argument("--vocab-size", type=count, default=4096)
    model.add_argument("--hidden-size", type=count, default=shape.hidden_size)
    model.add_argument("--intermediate-size", type=count, default=shape.intermediate_size)
    model.add_argument("--layers", type=count, default=shape.layers)
    model.add_argument("--heads", type=count, default=shape.heads)
    model.add_argument("--kv-heads", type=count, default=shape.kv_heads)

    training = parser.add_argument_group("training")
    training.add_argument("--context", type=count, default=recipe.context, help="tokens per sequence")
    training.add_argument("--batch", type=count, default=recipe.batch, help="sequences per step")
    training.add_argument("--steps", type=count, default=recipe.steps)
    training.add_argument("--warmup", type=count, default=recipe.warmup, metavar="STEPS")
    training.add_argument("--learning-rate", type=positive, default=recipe.learning_rate)
    training.add_argument("--final-learning-rate", type=positive, default=recipe.final_learning_rate)
    training.add_argument("--weight-decay", type=float, default=recipe.weight_decay)
    training.add_argument("--gradient-clip", type=positive, default=recipe.gradient_clip)
    training.add_argument("--dropout", type=share, default=recipe.dropout)
    training.add_argument("--seed", type=int, default=recipe.seed)
    training.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    training.add_argument("--compile", action="store_true", help="fuse operations; needs a C++ compiler")


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if not options.text and not options.chat:
        raise TrainingError("nothing to train on: give --text or --chat.")
    shape = ModelShape(
        options.hidden_size, options.intermediate_size, options.layers, options.heads, options.kv_heads
    )
    recipe = Recipe(
        context=options.context,
        batch=options.batch,
        steps=options.steps,
        warmup=options.warmup,
        learning_rate=options.learning_rate,
        final_learning_rate=options.final_learning_rate,
        weight_decay=options.weight_decay,
        gradient_clip=options.gradient_clip,
        dropout=options.dropout,
        held_out=options.held_out,
        seed=options.seed,
    )
    run = DecoderRun(
        texts=options.text,
        chats=options.chat,
        out=options.out,
        checkpoints=options.checkpoints or options.out / "checkpoints",
        shape=shape,
        recipe=recipe,
        vocab_size=options.vocab_size,
        dtype=options.dtype,
        device=options.device,
        name=options.name,
        # An interrupted run ends with the same weights, so how often it was resumed is nobody's concern.
        command=shlex.join(["farebox-engine", *(word for word in arguments if word != "--resume")]),
        data_card=options.data_card,
        save_every=options.save_every,
        resume=options.resume,
        compile=options.compile,
    )
    train_decoder(run, sys.stderr)
    return 0
