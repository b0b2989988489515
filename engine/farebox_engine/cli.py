"""The ``farebox-engine`` command: train a model, and have a look at one."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from farebox_engine import demo
from farebox_engine.config import EngineConfig
from farebox_engine.errors import EngineError
from farebox_engine.generate import Look, generate
from farebox_engine.training import adapter_command, classifier_command
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.export import DTYPES
from farebox_engine.training.run import Run, train
from farebox_engine.training.settings import ModelShape, Recipe
from farebox_engine.training.translation import TranslationRun, TranslatorShape, train_translator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, or 2 when the input cannot be used."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options, arguments))
    except (TrainingError, EngineError) as error:
        sys.stderr.write(f"farebox-engine: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="farebox-engine", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands.add_parser("train", help="train a decoder from text and write a Hugging Face folder"))
    adapter_command.add_arguments(
        commands.add_parser("train-adapter", help="train a LoRA adapter of a model from text")
    )
    classifier_command.add_arguments(
        commands.add_parser("train-classifier", help="train a classifier of texts from texts with labels")
    )
    _add_train_translator(
        commands.add_parser("train-translator", help="train an encoder-decoder from tab-separated pairs")
    )
    _add_generate(commands.add_parser("generate", help="continue a prompt or answer a chat turn"))
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_generate)
    parser.add_argument("--prompt", required=True)
    parser.add_argument(
        "--model", type=Path, default=demo.path(), metavar="DIR", help="default: the demo model"
    )
    parser.add_argument("--chat", action="store_true", help="render the prompt as a user's message")
    parser.add_argument("--max-tokens", type=_count, default=200)
    parser.add_argument("--temperature", type=float, help="0 is greedy; default: the model's own")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--quantization", choices=["int8", "fp8"], help="of a decoder; fp8 needs a GPU")


def _generate(options: argparse.Namespace, _: Sequence[str]) -> int:
    look = Look(
        options.model,
        options.prompt,
        options.chat,
        options.max_tokens,
        options.temperature,
        options.seed,
        options.quantization,
    )
    generate(look, sys.stdout)
    return 0


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_train)
    shape, recipe = ModelShape(), Recipe()
    data = parser.add_argument_group("data")
    data.add_argument("--text", type=Path, nargs="+", default=[], metavar="FILE", help="plain UTF-8 text")
    data.add_argument(
        "--chat", type=Path, nargs="+", default=[], metavar="FILE", help='JSON lines {"messages": [...]}'
    )
    data.add_argument("--held-out", type=_share, default=recipe.held_out, help="share kept for perplexity")
    data.add_argument("--data-card", type=Path, metavar="FILE", help="Markdown on sources and licences")

    target = parser.add_argument_group("output")
    target.add_argument("--out", type=Path, required=True, metavar="DIR")
    target.add_argument("--name", default="A Farebox model")
    target.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16", help="of the stored weights")
    target.add_argument("--checkpoints", type=Path, metavar="DIR", help="default: OUT/checkpoints")
    target.add_argument("--save-every", type=_count, default=250, metavar="STEPS")
    target.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")

    model = parser.add_argument_group("model")
    model.add_argument("--vocab-size", type=_count, default=4096)
    model.add_argument("--hidden-size", type=_count, default=shape.hidden_size)
    model.add_argument("--intermediate-size", type=_count, default=shape.intermediate_size)
    model.add_argument("--layers", type=_count, default=shape.layers)
    model.add_argument("--heads", type=_count, default=shape.heads)
    model.add_argument("--kv-heads", type=_count, default=shape.kv_heads)

    training = parser.add_argument_group("training")
    training.add_argument("--context", type=_count, default=recipe.context, help="tokens per sequence")
    training.add_argument("--batch", type=_count, default=recipe.batch, help="sequences per step")
    training.add_argument("--steps", type=_count, default=recipe.steps)
    training.add_argument("--warmup", type=_count, default=recipe.warmup, metavar="STEPS")
    training.add_argument("--learning-rate", type=_positive, default=recipe.learning_rate)
    training.add_argument("--final-learning-rate", type=_positive, default=recipe.final_learning_rate)
    training.add_argument("--weight-decay", type=float, default=recipe.weight_decay)
    training.add_argument("--gradient-clip", type=_positive, default=recipe.gradient_clip)
    training.add_argument("--dropout", type=_share, default=recipe.dropout)
    training.add_argument("--seed", type=int, default=recipe.seed)
    training.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    training.add_argument("--compile", action="store_true", help="fuse operations; needs a C++ compiler")


def _train(options: argparse.Namespace, arguments: Sequence[str]) -> int:
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
    run = Run(
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
    train(run, sys.stderr)
    return 0


def _add_train_translator(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_train_translator)
    shape = TranslatorShape()
    parser.add_argument(
        "--pairs", type=Path, required=True, metavar="FILE", help="UTF-8 lines of source<TAB>target"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--held-out", type=_share, default=0.02, help="share of the sources kept for scoring")
    parser.add_argument("--vocab-size", type=_count, default=4096)
    parser.add_argument("--hidden-size", type=_count, default=shape.hidden_size)
    parser.add_argument("--feed-forward", type=_count, default=shape.feed_forward)
    parser.add_argument("--layers", type=_count, default=shape.layers, help="of encoder and decoder each")
    parser.add_argument("--heads", type=_count, default=shape.heads)
    parser.add_argument("--context", type=_count, default=128, help="most tokens of a source or a target")
    parser.add_argument("--batch", type=_count, default=64, help="pairs per step")
    parser.add_argument("--steps", type=_count, default=2000)
    parser.add_argument("--warmup", type=_count, default=200, metavar="STEPS")
    parser.add_argument("--learning-rate", type=_positive, default=1e-3)
    parser.add_argument("--dropout", type=_share, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")


def _train_translator(options: argparse.Namespace, _: Sequence[str]) -> int:
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


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, not {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
