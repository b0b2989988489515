"""Training a classifier of texts: maximum likelihood, that is, cross-entropy."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor
from torch.nn import functional

from farebox_engine.checkpoint.fields import ConfigError
from farebox_engine.encoders.runner import make_batch
from farebox_engine.encoders.tokenizer import Tokens
from farebox_engine.training.classifier.labelled import Example, split
from farebox_engine.training.classifier.model import (
    ClassifierModel,
    EncoderShape,
    from_encoder,
    from_nothing,
    write_classifier,
)
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.progress import Progress


@dataclass(frozen=True, slots=True)
class ClassifierRecipe:
    """How the parameters are found. ``batch`` is texts per step, ``max_length`` tokens per text."""

    steps: int = 300
    batch: int = 32
    learning_rate: float = 5e-5
    warmup: int = 20
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    dropout: float = 0.1
    max_length: int = 128
    held_out: float = 0.1
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a line down to 0 (Devlin et al. 2018, appendix A.2)."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        return self.learning_rate * (self.steps - step) / max(1, self.steps - self.warmup)


@dataclass(frozen=True, slots=True)
class ClassifierRun:
    """What to read, what to begin with, and where to write. ``encoder`` None: a new one of ``shape``."""

    examples: Sequence[Example]
    out: Path
    encoder: Path | None = None
    shape: EncoderShape = field(default_factory=EncoderShape)
    recipe: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    name: str = "A Farebox classifier"
    command: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """On texts not trained on: the share labelled rightly, that of the commonest label, the loss in nats."""

    accuracy: float
    commonest: float
    loss: float


def train_classifier(run: ClassifierRun, output: TextIO) -> Score | None:
    """Train, write the model to ``run.out`` and tell ``output`` how it goes; None without held-out texts.

    Raises:
        TrainingError: the data or the settings cannot be used.
        LoadError: the encoder to begin with cannot be loaded.
    """
    recipe = run.recipe
    training, held_out = split(run.examples, recipe.held_out, recipe.seed)
    labels = sorted({example.label for example in training})
    torch.manual_seed(recipe.seed)
    try:
        classifier = _new_classifier(run, [example.text for example in training], labels)
    except ConfigError as error:
        raise TrainingError(str(error)) from error
    progress = Progress(recipe.steps, recipe.batch, output, unit="texts")
    progress.note(
        f"{len(training):,} texts to train on, {len(held_out):,} held out, labels {', '.join(labels)}"
    )
    _fit(classifier, _encoded(classifier, training, labels), recipe, progress)
    progress.close()
    score = _score(classifier, _encoded(classifier, held_out, labels)) if held_out else None
    write_classifier(run.out, classifier, _card(run, labels, score))
    if score is not None:
        progress.note(f"held-out accuracy {score.accuracy:.4f} (commonest label {score.commonest:.4f})")
    progress.note(f"wrote {run.out}")
    return score


Labelled = tuple[Tokens, int]


def _new_classifier(run: ClassifierRun, texts: Sequence[str], labels: Sequence[str]) -> ClassifierModel:
    recipe = run.recipe
    if run.encoder is not None:
        return from_encoder(run.encoder, labels, recipe.max_length, recipe.dropout)
    return from_nothing(run.shape, texts, labels, recipe.max_length, recipe.dropout)


def _encoded(
    classifier: ClassifierModel, examples: Sequence[Example], labels: Sequence[str]
) -> list[Labelled]:
    unknown = {example.label for example in examples} - set(labels)
    if unknown:
        raise TrainingError(f"the label {min(unknown)!r} is on held-out texts only; add texts with it.")
    tokens = classifier.tokenizer.encode([example.text for example in examples], truncate=True)
    return [(each, labels.index(example.label)) for each, example in zip(tokens, examples, strict=True)]


def _fit(
    classifier: ClassifierModel, examples: Sequence[Labelled], recipe: ClassifierRecipe, progress: Progress
) -> None:
    matrices = [parameter for parameter in classifier.model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in classifier.model.parameters() if parameter.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    classifier.model.train()
    batches = _batches(examples, recipe.batch, recipe.seed)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        logits, wanted = _logits(classifier, next(batches))
        loss = functional.cross_entropy(logits, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(classifier.model.parameters(), recipe.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.update(step + 1, loss.item())
    classifier.model.eval()


def _batches(examples: Sequence[Labelled], size: int, seed: int) -> Iterator[list[Labelled]]:
    """Pass after pass in another order; a pass's last few texts that fill no batch are left out."""
    rng = random.Random(seed)  # noqa: S311  # not for secrets
    size = min(size, len(examples))
    while True:
        order = rng.sample(range(len(examples)), len(examples))
        for start in range(0, len(order) - size + 1, size):
            yield [examples[place] for place in order[start : start + size]]


def _logits(classifier: ClassifierModel, examples: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
    """Logits [N, labels] and the labels' numbers, int64 [N]."""
    ordered = sorted(examples, key=lambda example: -len(example[0]))
    batch = make_batch(
        [tokens for tokens, _ in ordered], torch.device("cpu"), torch.float32, classifier.window
    )
    return classifier.model(batch), torch.tensor([label for _, label in ordered])


@torch.inference_mode()
def _score(classifier: ClassifierModel, examples: Sequence[Labelled]) -> Score:
    right, loss = 0, 0.0
    for start in range(0, len(examples), 64):
        logits, wanted = _logits(classifier, examples[start : start + 64])
        right += int((logits.argmax(dim=-1) == wanted).sum())
        loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
    commonest = Counter(label for _, label in examples).most_common(1)[0][1]
    count = len(examples)
    return Score(right / count, commonest / count, loss / count)


def _card(run: ClassifierRun, labels: Sequence[str], score: Score | None) -> str:
    """The model card, as Markdown."""
    begun = "from nothing" if run.encoder is None else f"from {run.encoder.name}"
    judged = (
        "not measured"
        if score is None
        else f"{score.accuracy:.4f} (always the commonest label: {score.commonest:.4f})"
    )
    return f"""---
library_name: farebox
pipeline_tag: text-classification
---

# {run.name}

A classifier of texts, trained {begun} by `farebox-engine train-classifier` with cross-entropy.

| | |
| --- | --- |
| labels | {", ".join(labels)} |
| texts | {len(run.examples):,}, of which {run.recipe.held_out:.0%} were held out |
| steps | {run.recipe.steps} of {run.recipe.batch} texts |
| held-out accuracy | {judged} |

```
{run.command}
```
"""
