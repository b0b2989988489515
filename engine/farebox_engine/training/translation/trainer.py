"""A training run from tab-separated pairs to a Hugging Face folder: a Marian, by maximum likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.checkpoint.folder import count_parameters
from farebox_engine.seq2seq.models.marian import Marian
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.progress import Progress
from farebox_engine.training.recipe import Recipe
from farebox_engine.training.translation.export import write_translator
from farebox_engine.training.translation.pairs import (
    IGNORED,
    PairBatch,
    PairSampler,
    hold_out_sources,
    read_pairs,
)
from farebox_engine.training.translation.shape import TranslatorShape
from farebox_engine.training.translation.teacher_forcing import PaddedSource, TeacherForcing
from farebox_engine.training.translation.vocabulary import token_settings, train_pair_tokenizer

_LABEL_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class TranslationRun:
    """What to read, what to train, and where to write it. ``recipe.batch`` counts pairs."""

    pairs: Path
    out: Path
    shape: TranslatorShape
    recipe: Recipe
    vocab_size: int
    device: torch.device


def train_translator(run: TranslationRun, output: TextIO) -> None:
    """Train, write the model and the pairs held out (``held-out.tsv``) to ``run.out``.

    Raises:
        TrainingError: input cannot be read, or settings do not fit.
    """
    recipe = run.recipe
    training, held_out = hold_out_sources(read_pairs(run.pairs), recipe.held_out, recipe.seed)
    tokenizer = train_pair_tokenizer(training, run.vocab_size)
    start = token_settings(tokenizer)["decoder_start_token_id"]
    config = run.shape.config(tokenizer.get_vocab_size(), recipe.context)
    sampler = PairSampler(
        training, tokenizer, start=start, context=recipe.context, batch=recipe.batch, seed=recipe.seed
    )
    torch.manual_seed(recipe.seed)
    model = Marian(config, recipe.dropout)
    _initialise(model)
    model.to(run.device)
    progress = Progress(recipe.steps, sampler.target_tokens, output)
    parameters = count_parameters(model)
    progress.note(
        f"{parameters:,} parameters, {len(training):,} pairs to train on, {len(held_out):,} held out, "
        f"{recipe.steps / sampler.batches:.1f} passes, on {run.device}"
    )
    _fit(model, sampler, recipe, progress)
    progress.close()
    write_translator(run.out, model, config, tokenizer)
    lines = "".join(f"{pair.source}\t{pair.target}\n" for pair in held_out)
    (run.out / "held-out.tsv").write_text(lines, encoding="utf-8")
    progress.note(f"wrote {run.out}")


def pair_loss(model: Marian, batch: PairBatch, smoothing: float = 0.0) -> Tensor:
    """The mean loss per target token in nats, with label smoothing (Szegedy et al. 2016, section 7)."""
    real = batch.real
    states = model.encode(
        batch.sources.flatten(),
        _positions(batch.sources),
        PaddedSource(real, model.encoder_attention),
    )
    attention = TeacherForcing(
        batch.inputs.shape[1], model.project_source(states), real, model.decoder_attention
    )
    hidden = model.decode(batch.inputs.flatten(), _positions(batch.inputs), attention)
    return functional.cross_entropy(
        model.logits(hidden), batch.labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing
    )


def _fit(model: Marian, sampler: PairSampler, recipe: Recipe, progress: Progress) -> None:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    device = model.model.shared.weight.device
    model.train()
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(step)
        loss = pair_loss(model, _on(sampler.batch(step), device), _LABEL_SMOOTHING)
        if not math.isfinite(loss.item()):
            raise TrainingError(f"the loss is no number at step {step + 1}: lower --learning-rate.")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        progress.update(step + 1, loss.item())
    model.eval()


def _on(batch: PairBatch, device: torch.device) -> PairBatch:
    return PairBatch(
        batch.sources.to(device), batch.real.to(device), batch.inputs.to(device), batch.labels.to(device)
    )


def _positions(tokens: Tensor) -> Tensor:
    """int64 [B * L] for padded tokens [B, L]."""
    return torch.arange(tokens.shape[1], device=tokens.device).repeat(tokens.shape[0])


def _initialise(model: Marian) -> None:
    """Glorot and Bengio 2010 for matrices; embeddings so that, scaled, they have unit variance."""
    for name, parameter in model.named_parameters():
        if name == "model.shared.weight":
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif name == "final_logits_bias":
            nn.init.zeros_(parameter)
        elif parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        elif name.endswith(".bias"):
            nn.init.zeros_(parameter)
