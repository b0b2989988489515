"""A training run from text files to a Hugging Face folder."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import torch
from tokenizers import Tokenizer

from farebox_engine.checkpoint.folder import count_parameters
from farebox_engine.models.llama import LlamaForCausalLM
from farebox_engine.training.corpus import Unit, plain_texts, read_chats, read_texts
from farebox_engine.training.decoder.checkpoint import CheckpointStore
from farebox_engine.training.decoder.dataset import TokenStream, WindowSampler
from farebox_engine.training.decoder.export import TrainingSummary, write_model
from farebox_engine.training.decoder.shape import ModelShape
from farebox_engine.training.decoder.trainer import Trainer, perplexity
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.held_out import by_kind, hold_out
from farebox_engine.training.progress import Progress, duration
from farebox_engine.training.recipe import Recipe
from farebox_engine.training.vocabulary import Encoder, load_tokenizer, train_tokenizer


@dataclass(frozen=True, slots=True)
class DecoderRun:
    """What to read, what to train, and where to write it."""

    texts: Sequence[Path]
    chats: Sequence[Path]
    out: Path
    checkpoints: Path
    shape: ModelShape
    recipe: Recipe
    vocab_size: int
    dtype: str
    device: str
    name: str
    command: str
    data_card: Path | None = None
    save_every: int = 250
    resume: bool = False
    compile: bool = False


def train_decoder(run: DecoderRun, output: TextIO) -> None:
    """Train, write the model to ``run.out`` and tell ``output`` how it goes.

    Raises:
        TrainingError: input cannot be read, settings do not fit, or there is something to resume
            (or overwrite) that was not asked for.
    """
    store = _store(run)
    data = _read_data_card(run.data_card)
    units = read_texts(run.texts) + read_chats(run.chats)
    training, held_out = hold_out(units, run.recipe.held_out, run.recipe.seed)
    tokenizer = _tokenizer(run, training)
    encoder = Encoder(tokenizer)
    stream = TokenStream.encode(training, encoder)

    torch.manual_seed(run.recipe.seed)
    model = _new_model(run, tokenizer.get_vocab_size(), (encoder.turn_end, encoder.end_of_text))
    sampler = WindowSampler(stream, run.recipe.context, run.recipe.batch, run.recipe.seed)
    trainer = Trainer(model, sampler, run.recipe, store, _fingerprint(run, stream))
    if run.compile:
        trainer.compile()
    done = trainer.resume()

    progress = Progress(run.recipe.steps, run.recipe.batch * run.recipe.context, output)
    parameters = count_parameters(model)
    progress.note(
        f"{parameters:,} parameters, {len(stream):,} tokens, {sampler.passes(run.recipe.steps):.1f} "
        f"passes, from step {done} on {model.device}"
    )
    if done < run.recipe.steps:
        progress.note(_cost(run.recipe, run.recipe.steps - done, trainer.time_step()))
    log = run.checkpoints / "log.jsonl"
    trainer.run(progress, log, run.save_every)
    progress.close()

    perplexities = _held_out_perplexities(model, held_out, encoder, run.recipe.context)
    summary = TrainingSummary(
        name=run.name,
        command=run.command,
        parameters=parameters,
        recipe=run.recipe,
        passes=sampler.passes(run.recipe.steps),
        loss=_last_loss(log),
        perplexities=perplexities,
        data=data,
    )
    write_model(run.out, model, tokenizer, summary)
    for kind, value in perplexities.items():
        progress.note(f"held-out perplexity, {kind}: {value:.2f}")
    progress.note(f"wrote {run.out}")


def _cost(recipe: Recipe, steps: int, seconds: float) -> str:
    """What is about to be spent, while it can still be stopped for free."""
    return (
        f"{steps:,} steps of {recipe.batch} x {recipe.context} tokens will take about"
        f" {duration(steps * seconds)} ({seconds:.2g} s each, measured);"
        " fewer --steps, a smaller --batch or --context take less"
    )


def _store(run: DecoderRun) -> CheckpointStore:
    store = CheckpointStore(run.checkpoints)
    if store.newest() is not None and not run.resume:
        raise TrainingError(f"{run.checkpoints} holds a checkpoint: add --resume, or remove the folder.")
    return store


def _read_data_card(path: Path | None) -> str:
    if path is None:
        return "Not described."
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read as text: {error}.") from error


def _tokenizer(run: DecoderRun, training: Sequence[Unit]) -> Tokenizer:
    """Train a tokenizer, or take the one the resumed run began with: ties in BPE need not fall alike."""
    saved = run.checkpoints / "tokenizer.json"
    if run.resume and saved.exists():
        return load_tokenizer(saved)
    tokenizer = train_tokenizer(plain_texts(training), run.vocab_size)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(saved))
    return tokenizer


def _new_model(run: DecoderRun, vocab_size: int, end_tokens: tuple[int, ...]) -> LlamaForCausalLM:
    config = run.shape.config(vocab_size, run.recipe.context, run.dtype, end_tokens)
    model = LlamaForCausalLM(config, run.recipe.dropout)
    model.initialise()
    return model.to(_device(run.device))


def _fingerprint(run: DecoderRun, stream: TokenStream) -> dict[str, object]:
    """What must not change between a checkpoint and the run that resumes it."""
    return {"shape": asdict(run.shape), "recipe": asdict(run.recipe), "stream": stream.fingerprint()}


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device cuda was asked for, but PyTorch finds no GPU here.")
    return torch.device(name)


def _held_out_perplexities(
    model: LlamaForCausalLM, held_out: Sequence[Unit], encoder: Encoder, context: int
) -> dict[str, float]:
    """Perplexity by kind of data; templates are easier than prose, and one mean would hide it."""
    found = {
        kind: perplexity(model, TokenStream.encode(units, encoder), context)
        for kind, units in by_kind(held_out).items()
    }
    return {kind: value for kind, value in found.items() if value is not None}


def _last_loss(log: Path) -> float:
    lines = log.read_text(encoding="utf-8").splitlines()[-100:]
    return statistics.fmean(json.loads(line)["loss"] for line in lines)
