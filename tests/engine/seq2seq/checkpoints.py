"""Tiny random encoder-decoders in the form of a Hugging Face folder, with weights that let faults show."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from tests.engine.checkpoints import write_tokenizer
from tests.engine.tokenization.sentencepiece.trained import write_marian_tokenizer

VOCAB_SIZE = 400
END, START = 0, 4

_POST_NORM: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 96,
    "init_std": 0.3,
    "eos_token_id": END,
    "forced_eos_token_id": END,
    "pad_token_id": START,
    "decoder_start_token_id": START,
}
_T5: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "initializer_factor": 1.5,
    "eos_token_id": END,
    "pad_token_id": START,
    "decoder_start_token_id": START,
}

FAMILIES = ("t5", "t5-1.1", "marian", "bart")


def build_seq2seq(folder: Path, family: str, seed: int = 0, **generation: Any) -> Path:
    """Write a checkpoint of `family` to `folder`; `generation` goes to generation_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    torch.manual_seed(seed)
    model = _model(family)
    _roughen(model)
    settings = (
        {"decoder_start_token_id": START, "pad_token_id": START, "eos_token_id": END}
        | ({"forced_eos_token_id": END} if family in {"marian", "bart"} else {})
        | generation
    )
    model.generation_config = GenerationConfig(**settings)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    if family.startswith("t5"):
        # Saved by transformers 5 these are no fields of a T5; older exports have them.
        description = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(description | {"n_positions": 96}))
    return folder


def build_published(folder: Path, seed: int = 0, *, separate: bool = False) -> Path:
    """Write a Marian to `folder` as OPUS-MT publishes it, without a tokenizer.json."""
    source, target = write_marian_tokenizer(folder, separate=separate)
    ids = {"eos_token_id": 0, "bos_token_id": 0, "forced_eos_token_id": 0}
    ids |= dict.fromkeys(("pad_token_id", "decoder_start_token_id"), min(source, target) - 1)
    sides = {
        "vocab_size": source,
        "decoder_vocab_size": target,
        "share_encoder_decoder_embeddings": not separate,
    }
    shape = _POST_NORM | ids | sides
    torch.manual_seed(seed)
    model = MarianMTModel(MarianConfig(**shape, activation_function="swish", scale_embedding=True))
    _roughen(model)
    generation = ids | {"num_beams": 3, "max_length": 40, "bad_words_ids": [[ids["pad_token_id"]]]}
    model.generation_config = GenerationConfig(**generation)  # type: ignore[no-untyped-call]
    model.save_pretrained(folder)
    # Fields of the published files that change nothing.
    description = json.loads((folder / "config.json").read_text())
    more: dict[str, Any] = {
        "add_bias_logits": False,
        "add_final_layer_norm": False,
        "normalize_before": False,
    }
    more |= {"normalize_embedding": False, "static_position_embeddings": True, "extra_pos_embeddings": source}
    (folder / "config.json").write_text(json.dumps(description | more))
    return folder


def load_reference(folder: Path) -> PreTrainedModel:
    kinds = {"t5": T5ForConditionalGeneration, "marian": MarianMTModel, "bart": BartForConditionalGeneration}
    kind = kinds[json.loads((folder / "config.json").read_text())["model_type"]]
    model: PreTrainedModel = kind.from_pretrained(folder, dtype=torch.float32)  # type: ignore[attr-defined]
    model.train(False)
    return model


def _model(family: str) -> PreTrainedModel:
    if family == "t5":
        return T5ForConditionalGeneration(T5Config(**_T5))
    if family == "t5-1.1":
        gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
        return T5ForConditionalGeneration(T5Config(**_T5 | gated))
    if family == "marian":
        return MarianMTModel(MarianConfig(**_POST_NORM, activation_function="swish", scale_embedding=True))
    return BartForConditionalGeneration(BartConfig(**_POST_NORM, bos_token_id=START))


def _roughen(model: PreTrainedModel) -> None:
    """Make faults show, and texts lively.

    Biases and norms begin at 0 and 1 and position biases near 0: there, faults in them would
    go unseen. Norms of random sign keep tied embeddings from echoing the last token; weak
    sublayers let it matter at all where sums are normalised.
    """
    post_norm = model.config.model_type != "t5"
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if "relative_attention_bias" in name:
                tensor.normal_(std=2.0)
            elif name == "final_logits_bias":
                tensor.normal_(std=0.3)
            elif tensor.dim() == 1:
                tensor.normal_(std=1.0 if name.endswith("norm.weight") else 0.1)
            elif post_norm and name.endswith(("out_proj.weight", "fc2.weight")):
                tensor.mul_(0.3)
            if name.endswith(("decoder.layers.1.final_layer_norm.weight", "decoder.final_layer_norm.weight")):
                tensor.mul_(3.0)
