"""Training a LoRA adapter on a frozen base model: from texts to a folder in peft's format."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor
from torch.nn import functional

from farebox_engine.config import EngineConfig
from farebox_engine.layers.attention import CausalAttention
from farebox_engine.lora.batch import adapted
from farebox_engine.models.loader import LoadedModel, load_model
from farebox_engine.training.adapter.examples import Example, batch_of, make_examples
from farebox_engine.training.adapter.model import AdapterShape, TrainableAdapter
from farebox_engine.training.corpus import read_chats, read_texts
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.held_out import hold_out
from farebox_engine.training.progress import Progress
from farebox_engine.training.recipe import Recipe
from farebox_engine.training.vocabulary import Encoder


@dataclass(frozen=True, slots=True)
class AdapterRun:
    """What to read, what to train, and where to write it."""

    base: Path
    texts: Sequence[Path]
    chats: Sequence[Path]
    out: Path
    shape: AdapterShape
    recipe: Recipe
    engine: EngineConfig


def train_adapter(run: AdapterRun, output: TextIO) -> None:
    """Train, write the adapter to `run.out` and tell `output` how it goes.

    Raises:
        TrainingError: input cannot be read, or settings do not fit.
        LoadError: the base model cannot be loaded.
    """
    units = read_texts(run.texts) + read_chats(run.chats)
    device = run.engine.torch_device()
    loaded = load_model(run.base, device=device, dtype=run.engine.torch_dtype(device))
    context = min(run.recipe.context, loaded.config.max_position_embeddings)
    training, held_out = hold_out(units, run.recipe.held_out, run.recipe.seed)
    examples = make_examples(training, loaded, context)
    scored = make_examples(held_out, loaded, context)
    if not examples:
        raise TrainingError("the training text is too short to learn from.")
    torch.manual_seed(run.recipe.seed)
    trainer = _Trainer(loaded, TrainableAdapter(loaded, run.shape), examples, run.recipe)
    progress = Progress(run.recipe.steps, run.recipe.batch, output, unit="examples")
    progress.note(
        f"{trainer.parameters:,} parameters on {loaded.parameters:,} frozen ones, {len(examples):,} examples"
    )
    before = trainer.perplexity(scored)
    run.out.mkdir(parents=True, exist_ok=True)
    trainer.run(progress, run.out / "log.jsonl")
    progress.close()
    trainer.adapter.write(run.out, run.base)
    after = trainer.perplexity(scored)
    if before is not None and after is not None:
        progress.note(f"held-out perplexity: {after:.2f}, without the adapter {before:.2f}")
    progress.note(f"wrote {run.out}")


class _Trainer:
    def __init__(
        self, loaded: LoadedModel, adapter: TrainableAdapter, examples: list[Example], recipe: Recipe
    ) -> None:
        self.adapter = adapter
        self.parameters = sum(parameter.numel() for parameter in adapter.parameters())
        self._loaded, self._examples, self._recipe = loaded, examples, recipe
        self._order = torch.Generator().manual_seed(recipe.seed)
        self._queue: list[int] = []
        self._optimizer = torch.optim.AdamW(
            adapter.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )

    def run(self, progress: Progress, log: Path) -> None:
        """Train to the recipe's last step; each adds a line to `log`."""
        with log.open("w", encoding="utf-8") as lines:
            for step in range(self._recipe.steps):
                rate = self._recipe.learning_rate_at(step)
                for group in self._optimizer.param_groups:
                    group["lr"] = rate
                total, counted = self._loss(self._draw())
                (total / counted).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), self._recipe.gradient_clip)
                self._optimizer.step()
                self._optimizer.zero_grad(set_to_none=True)
                loss = total.item() / counted
                lines.write(json.dumps({"step": step + 1, "loss": loss, "learning_rate": rate}) + "\n")
                progress.update(step + 1, loss)

    @torch.no_grad()
    def perplexity(self, examples: list[Example]) -> float | None:
        """exp of the mean loss over what is to be learned; None where there is nothing."""
        losses = [
            self._loss(examples[start : start + self._recipe.batch])
            for start in range(0, len(examples), self._recipe.batch)
        ]
        counted = sum(count for _, count in losses)
        return math.exp(sum(float(total) for total, _ in losses) / counted) if counted else None

    def _draw(self) -> list[Example]:
        """The next examples of a pass over all, in an order drawn anew for each pass."""
        while len(self._queue) < self._recipe.batch:
            self._queue += torch.randperm(len(self._examples), generator=self._order).tolist()
        drawn, self._queue = self._queue[: self._recipe.batch], self._queue[self._recipe.batch :]
        return [self._examples[index] for index in drawn]

    def _loss(self, examples: list[Example]) -> tuple[Tensor, int]:
        """The summed loss in nats, and the number of labels that count, at least one."""
        device = self._loaded.device
        inputs, labels, length = batch_of(examples)
        positions = torch.arange(length).repeat(len(examples)).to(device)
        lengths = torch.full_like(positions, length)
        model = self._loaded.model
        with _mixed_precision(device), adapted([self.adapter.group()]):
            hidden = model(inputs.to(device), positions, CausalAttention(length), lengths)
            # Only what is learned gets logits: a vocabulary is wide.
            learned = labels != Encoder.IGNORED
            logits = model.logits(hidden[learned.to(device)])
        total = functional.cross_entropy(logits, labels[learned].to(device), reduction="sum")
        return total, int(learned.sum())


def _mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """On a GPU the base is bf16 and the adapter fp32."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()
