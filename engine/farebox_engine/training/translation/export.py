"""Writing a trained translator as a Hugging Face folder."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer

from farebox_engine.seq2seq.models.marian import Marian
from farebox_engine.seq2seq.models.post_norm import PostNormConfig
from farebox_engine.training.translation.vocabulary import END, PAD, token_settings


def write_translator(folder: Path, model: Marian, config: PostNormConfig, tokenizer: Tokenizer) -> None:
    """Write config, weights (fp32), tokenizer and generation settings as `transformers` has them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for the owner only, which would make an installed model unreadable to others.
    (folder / "model.safetensors").chmod(0o644)
    tokens = token_settings(tokenizer)
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


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
