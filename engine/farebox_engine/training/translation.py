"""A training run from tab-separated pairs to a Hugging Face folder: a Marian, by maximum likelihood."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from torch.nn import functional

from farebox_engine.seq2seq.models.marian import Marian
from farebox_engine.seq2seq.models.post_norm import PostNormConfig
from farebox_engine.training.errors import TrainingError
from farebox_engine.training.pairs import IGNORED, Pair, PairBatch, PairSampler, hold_out_sources, read_pairs
from farebox_engine.training.progress import Progress
from farebox_engine.training.settings import Recipe
from farebox_engine.training.teacher_forcing import PaddedSource, TeacherForcing

END, PAD = "</s>", "<pad>"
_SMALLEST_VOCABULARY = 256 + 2
_LABEL_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class TranslatorShape:
    """The Marian to be trained; encoder and decoder have as many layers each."""

    hidden_size: int = 256
    feed_forward: int = 1024
    layers: int = 3
    heads: int = 4

    def config(self, vocab_size: int, context: int) -> PostNormConfig:
        """Raises TrainingError where the sizes do not fit each other."""
        if self.hidden_size % self.heads:
            raise TrainingError(
                f"--hidden-size {self.hidden_size} must be a multiple of --heads {self.heads}."
            )
        return PostNormConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            encoder_layers=self.layers,
            encoder_heads=self.heads,
            encoder_feed_forward=self.feed_forward,
            decoder_layers=self.layers,
            decoder_heads=self.heads,
            decoder_feed_forward=self.feed_forward,
            activation="swish",
            embedding_scale=self.hidden_size**0.5,
            positions=context,
        )


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
    start = _token_settings(tokenizer)["decoder_start_token_id"]
    config = run.shape.config(tokenizer.get_vocab_size(), recipe.context)
    sampler = PairSampler(
        training, tokenizer, start=start, context=recipe.context, batch=recipe.batch, seed=recipe.seed
    )
    torch.manual_seed(recipe.seed)
    model = Marian(config, recipe.dropout)
    _initialise(model)
    model.to(run.device)
    progress = Progress(recipe.steps, sampler.target_tokens, output)
    parameters = sum(parameter.numel() for parameter in model.parameters())
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


def train_pair_tokenizer(pairs: Sequence[Pair], vocab_size: int) -> Tokenizer:
    """Train one byte-level BPE tokenizer for both sides; it ends every text with the end token.

    Raises:
        TrainingError: ``vocab_size`` cannot hold all bytes and the special tokens.
    """
    if vocab_size < _SMALLEST_VOCABULARY:
        raise TrainingError(f"a vocabulary of {vocab_size} is too small: {_SMALLEST_VOCABULARY} are needed.")
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for pair in pairs for text in (pair.source, pair.target)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return tokenizer


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


def write_translator(folder: Path, model: Marian, config: PostNormConfig, tokenizer: Tokenizer) -> None:
    """Write config, weights (fp32), tokenizer and generation settings as `transformers` has them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for the owner only, which would make an installed model unreadable to others.
    (folder / "model.safetensors").chmod(0o644)
    tokens = _token_settings(tokenizer)
    _write_json(folder / "config.json", _config(config) | tokens)
    searching: dict[str, object] = {
        "num_beams": 4,
        "max_length": config.positions,
        "bad_words_ids": [[tokens["pad_token_id"]]],
    }
    _write_json(folder / "generation_config.json", tokens | searching)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD},
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


def _config(config: PostNormConfig) -> dict[str, object]:
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "encoder_layers": config.encoder_layers,
        "encoder_attention_heads": config.encoder_heads,
        "encoder_ffn_dim": config.encoder_feed_forward,
        "decoder_layers": config.decoder_layers,
        "decoder_attention_heads": config.decoder_heads,
        "decoder_ffn_dim": config.decoder_feed_forward,
        "activation_function": config.activation,
        "scale_embedding": config.embedding_scale != 1.0,
        "max_position_embeddings": config.positions,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
    }


def _token_settings(tokenizer: Tokenizer) -> dict[str, int]:
    ids = tokenizer.get_vocab()
    end, pad = ids[END], ids[PAD]
    return {
        "eos_token_id": end,
        "forced_eos_token_id": end,
        "pad_token_id": pad,
        "decoder_start_token_id": pad,
    }


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
