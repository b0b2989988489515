"""What narrower numbers cost in accuracy: perplexity and greedy choices beside the same model in fp32.

Perplexity is per token of the model's vocabulary, over a text in pieces of 256 tokens, each without
context. "same choice" is the share of the text's places where the most probable token is fp32's;
"same answer" for how many of 32 tokens, on average, a greedy continuation of the text is fp32's.
The default model is the demo, the default text are tales in the manner of its training, made from
another seed (held_out_tales.txt). On a CPU, what a GPU computes is emulated: weights and inputs are
rounded as there (to int8 weights, to e4m3), and multiplied and summed in fp32.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine import demo
from farebox_engine.config import EngineConfig
from farebox_engine.errors import EngineError, LoadError
from farebox_engine.kernels import plain
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.models.loader import LoadedModel, load_model
from farebox_engine.quantization.prepare import (
    check_quantization,
    emulate_fp8,
    narrow_linears,
    prepare_linears,
)
from farebox_engine.training.arguments import told

_TALES = Path(__file__).parent / "held_out_tales.txt"
_PIECE = 256
_ANSWERS, _PROMPT, _ANSWER = 16, 48, 32


@dataclass(frozen=True, slots=True)
class Precision:
    """A way of computing: the model's dtype, and what is done to it after loading."""

    name: str
    dtype: torch.dtype
    prepare: Callable[[nn.Module], None]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What a precision made of the text; the shares are 1 for the first precision, fp32 itself."""

    name: str
    perplexity: float
    same_choice: float
    same_answer: float


def main(arguments: Sequence[str]) -> int:
    """Print a table; return 0, or 2 if the model, the text or the device cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m farebox_engine.bench accuracy",
        description=told(__doc__),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", type=Path, default=demo.path(), metavar="DIR", help="default: the demo")
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8; default: tales that are held out")
    parser.add_argument("--pieces", type=int, default=400, help="of the text, at most")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    options = parser.parse_args(arguments)
    try:
        device = EngineConfig(device=options.device).torch_device()
        text = options.text.read_text("utf-8") if options.text else held_out_text()
        readings = list(measure(options.model, text, device, options.pieces))
    except (EngineError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(table(readings) + "\n")
    return 0


def held_out_text() -> str:
    """Tales in the manner of the demo model's training, from a seed that its training did not have."""
    return _TALES.read_text("utf-8").strip()


def precisions(device: torch.device) -> list[Precision]:
    """fp32 first; then those that `device` serves in, and on a CPU a GPU's, emulated."""

    def unchanged(_: nn.Module) -> None:
        pass

    wide = [
        Precision("fp32", torch.float32, unchanged),
        Precision("bf16", torch.bfloat16, unchanged),
    ]
    emulated = Precision("fp8 of a GPU, emulated", torch.float32, partial(emulate_fp8, kernels=plain))
    if device.type == "cpu":
        on_cpu = partial(prepare_linears, quantization="int8", device=device)
        as_on_gpu = partial(narrow_linears, quantization="int8", kernels=plain)
        return [
            *wide,
            Precision("int8 of a CPU", torch.float32, on_cpu),
            Precision("int8 weights of a GPU, emulated", torch.float32, as_on_gpu),
            emulated,
        ]
    int8, fp8 = (partial(prepare_linears, quantization=name, device=device) for name in ("int8", "fp8"))
    try:
        check_quantization("fp8", device)
        last = Precision("fp8 and bf16", torch.bfloat16, fp8)
    except LoadError:
        last = emulated
    return [*wide, Precision("int8 weights and bf16", torch.bfloat16, int8), last]


def measure(
    folder: Path, text: str, device: torch.device, pieces: int, using: Sequence[Precision] | None = None
) -> Iterator[Accuracy]:
    """A reading for each precision, by default all of `precisions`; the model is loaded anew for each.

    Raises:
        LoadError: the folder cannot be used.
        ValueError: the text has fewer than 257 tokens.
    """
    choices: Tensor | None = None
    answers: Tensor | None = None
    for precision in precisions(device) if using is None else using:
        loaded = load_model(folder, device=device, dtype=precision.dtype)
        precision.prepare(cast(nn.Module, loaded.model))
        tokens = _pieces(loaded, text, pieces)
        loss, chosen = _score(loaded, tokens)
        answered = _continue(loaded, tokens[:_ANSWERS, :_PROMPT], _ANSWER)
        choices = chosen if choices is None else choices
        answers = answered if answers is None else answers
        agreeing = (answered == answers).cumprod(dim=1).float().mean()
        yield Accuracy(
            precision.name, math.exp(loss), float((chosen == choices).float().mean()), float(agreeing)
        )


def table(readings: Sequence[Accuracy]) -> str:
    """Markdown, with the change of perplexity against the first reading."""
    lines = [
        "| computed as | perplexity | change | same choice | same answer |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    first = readings[0]
    for reading in readings:
        start = f"| {reading.name} | {reading.perplexity:.4f} |"
        if reading is first:
            lines.append(f"{start} | | |")
            continue
        change = 100 * (reading.perplexity / first.perplexity - 1)
        lines.append(
            f"{start} {change:+.2f} % | {100 * reading.same_choice:.2f} % "
            f"| {_ANSWER * reading.same_answer:.1f} of {_ANSWER} |"
        )
    return "\n".join(lines)


def _pieces(loaded: LoadedModel, text: str, most: int) -> Tensor:
    """The text's tokens, int64 [pieces, 257]: each piece, and the token after it."""
    tokens = torch.tensor(loaded.tokenizer.encode(text), device=loaded.device)
    count = min((len(tokens) - 1) // _PIECE, most)
    if count < 1:
        raise ValueError(f"The text has {len(tokens)} tokens; at least {_PIECE + 1} are needed.")
    return tokens[: count * _PIECE + 1].unfold(0, _PIECE + 1, _PIECE)


@torch.inference_mode()
def _score(loaded: LoadedModel, pieces: Tensor) -> tuple[float, Tensor]:
    """The mean loss per token, in nats, and the most probable token of each place [pieces * 256]."""
    positions = torch.arange(_PIECE, device=loaded.device)
    total = 0.0
    chosen = []
    for piece in pieces:
        logits = loaded.model.logits(loaded.model(piece[:-1], positions, CausalAttention(_PIECE)))
        total += float(functional.cross_entropy(logits, piece[1:], reduction="sum"))
        chosen.append(logits.argmax(dim=-1))
    return total / (len(pieces) * _PIECE), torch.cat(chosen).cpu()


@torch.inference_mode()
def _continue(loaded: LoadedModel, prompts: Tensor, count: int) -> Tensor:
    """The `count` tokens that greedily follow each of `prompts` [N, any]; all is computed anew for each."""
    rows = prompts
    for _ in range(count):
        length = rows.shape[1]
        positions = torch.arange(length, device=rows.device).repeat(len(rows))
        hidden = loaded.model(rows.flatten(), positions, CausalAttention(length))
        last = hidden.view(len(rows), length, -1)[:, -1]
        rows = torch.cat((rows, loaded.model.logits(last).argmax(dim=-1, keepdim=True)), dim=1)
    return rows[:, prompts.shape[1] :].cpu()
