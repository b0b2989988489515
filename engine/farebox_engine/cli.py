"""The ``farebox-engine`` command: train a model, and have one answer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from farebox_engine import demo
from farebox_engine.errors import EngineError
from farebox_engine.generate import GenerateOptions, generate
from farebox_engine.training.adapter import command as adapter
from farebox_engine.training.arguments import DefaultsShown, count, told
from farebox_engine.training.classifier import command as classifier
from farebox_engine.training.decoder import command as decoder
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.translation import command as translation

_TRAINING = (
    ("train", decoder, "train a decoder from text and write a Hugging Face folder"),
    ("train-adapter", adapter, "train a LoRA adapter of a model from text"),
    ("train-classifier", classifier, "train a classifier of texts from texts with labels"),
    ("train-translator", translation, "train an encoder-decoder from tab-separated pairs"),
)


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
    parser = argparse.ArgumentParser(prog="farebox-engine", description=told(__doc__))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, purpose in _TRAINING:
        command.add_arguments(commands.add_parser(name, help=purpose, formatter_class=DefaultsShown))
    _add_generate(
        commands.add_parser(
            "generate", help="continue a prompt or answer a chat turn", formatter_class=DefaultsShown
        )
    )
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_generate)
    parser.add_argument("--prompt", required=True)
    parser.add_argument(
        "--model", type=Path, default=demo.path(), metavar="DIR", help="default: the demo model"
    )
    parser.add_argument("--chat", action="store_true", help="render the prompt as a user's message")
    parser.add_argument("--max-tokens", type=count, default=200)
    parser.add_argument("--temperature", type=float, help="0 is greedy; default: the model's own")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--quantization", choices=["int8", "fp8"], help="of a decoder; fp8 needs a GPU")


def _generate(options: argparse.Namespace, _: Sequence[str]) -> int:
    chosen = GenerateOptions(
        options.model,
        options.prompt,
        options.chat,
        options.max_tokens,
        options.temperature,
        options.seed,
        options.quantization,
    )
    generate(chosen, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
