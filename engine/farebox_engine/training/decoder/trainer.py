"""Next-token maximum-likelihood training."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from farebox_engine.layers.attention import CausalAttention
from farebox_engine.models.llama import LlamaForCausalLM
from farebox_engine.training.decoder.checkpoint import CheckpointStore
from farebox_engine.training.decoder.dataset import TokenStream, WindowSampler
from farebox_engine.training.progress import Progress
from farebox_engine.training.recipe import Recipe
from farebox_engine.training.vocabulary import Encoder

_BETAS = (0.9, 0.95)


class Trainer:
    """Runs a recipe on a model; all state that matters goes through the checkpoint store."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        sampler: WindowSampler,
        recipe: Recipe,
        store: CheckpointStore,
        fingerprint: Mapping[str, object],
    ) -> None:
        self.model = model
        self._sampler, self._recipe, self._store, self._fingerprint = sampler, recipe, store, fingerprint
        self._optimizer = _optimizer(model, recipe)
        self._loss: Callable[[Tensor, Tensor], Tensor] = self._sequence_loss
        self._step = 0

    def compile(self) -> None:
        """Fuse the forward and backward passes; a quarter faster on a CPU, needs a C++ compiler there."""
        self._loss = torch.compile(self._sequence_loss)

    def resume(self) -> int:
        """Go back to the newest checkpoint, if there is one; return the number of steps done."""
        newest = self._store.newest()
        if newest is not None:
            self._store.load(newest, self.model, self._optimizer, self._fingerprint)
            self._step = newest
        return self._step

    def time_step(self) -> float:
        """Seconds of a step, found by computing the first batch twice; model and dice stay as they were."""
        device = self.model.device
        inputs, labels = (each.to(device) for each in self._sampler.batch(self._step))
        self.model.train()
        with torch.random.fork_rng():
            # The first time, memory is fetched and kernels are chosen or compiled.
            for _ in range(2):
                started = time.perf_counter()
                with _mixed_precision(device):
                    loss = self._loss(inputs, labels)
                loss.backward()  # type: ignore[no-untyped-call]
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
        self._optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - started

    def run(self, progress: Progress, log: Path, save_every: int) -> None:
        """Train to the recipe's last step, with a checkpoint each ``save_every`` steps and at the end.

        Each step adds a line to ``log``; lines past the resumed step are dropped first.
        """
        _truncate_log(log, self._step)
        self.model.train()
        with log.open("a", encoding="utf-8") as lines:
            while self._step < self._recipe.steps:
                record = self._train_step()
                lines.write(json.dumps(record) + "\n")
                progress.update(self._step, record["loss"])
                if self._step % save_every == 0 or self._step == self._recipe.steps:
                    lines.flush()
                    self._store.save(self._step, self.model, self._optimizer, self._fingerprint)

    def _train_step(self) -> dict[str, float]:
        rate = self._recipe.learning_rate_at(self._step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        inputs, labels = self._sampler.batch(self._step)
        device = self.model.device
        with _mixed_precision(device):
            loss = self._loss(inputs.to(device), labels.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.gradient_clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1
        return {"step": self._step, "loss": loss.item(), "learning_rate": rate, "norm": norm.item()}

    def _sequence_loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        total, counted = token_loss(self.model, inputs, labels, self._recipe.context)
        # A batch of nothing but questions has no label at all.
        return total / counted.clamp(min=1)


def token_loss(
    model: LlamaForCausalLM, inputs: Tensor, labels: Tensor, context: int
) -> tuple[Tensor, Tensor]:
    """Return the summed loss in nats and the number of labels that count.

    ``inputs`` and ``labels`` are int64 [sequences * context]; a label of -100 does not count. Documents
    packed into one sequence do not see each other: a small model would take long to learn to ignore
    what has nothing to do with the question.
    """
    positions = torch.arange(context, device=inputs.device).repeat(len(inputs) // context)
    lengths = torch.full_like(positions, context)
    documents = _documents(inputs.view(-1, context), model.config.eos_token_ids[-1])
    hidden = model(inputs, positions, CausalAttention(context, documents), lengths)
    total = functional.cross_entropy(
        model.logits(hidden), labels, ignore_index=Encoder.IGNORED, reduction="sum"
    )
    return total, (labels != Encoder.IGNORED).sum()


def _documents(inputs: Tensor, end_of_text: int) -> Tensor:
    """Number the documents of ``inputs`` [sequences, context]; the mark that ends one belongs to it."""
    ends = inputs == end_of_text
    return (ends.cumsum(dim=1) - ends.long()).flatten()


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, stream: TokenStream, context: int) -> float | None:
    """exp of the mean loss over the labels of ``stream``, read in windows; None where it has none."""
    was_training = model.training
    model.eval()
    total, counted = 0.0, 0
    for start in range(0, len(stream) - 1, context):
        length = min(context, len(stream) - 1 - start)
        inputs, labels = stream.window(start, length)
        with _mixed_precision(model.device):
            loss, labelled = token_loss(model, inputs.to(model.device), labels.to(model.device), length)
        total, counted = total + loss.item(), counted + int(labelled.item())
    model.train(was_training)
    return math.exp(total / counted) if counted else None


def _optimizer(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019); decay pulls on matrices, not on norms and biases."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=_BETAS, fused=True)


def _mixed_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """bf16 products on a GPU; fp32 on a CPU, where bf16 is emulated and slower."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return contextlib.nullcontext()


def _truncate_log(log: Path, step: int) -> None:
    if log.exists():
        kept = log.read_text(encoding="utf-8").splitlines(keepends=True)[:step]
        log.write_text("".join(kept), encoding="utf-8")
