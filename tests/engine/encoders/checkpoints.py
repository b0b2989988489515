"""Tiny encoders with random weights, in the form of Hugging Face folders.

Initialised at 0.3, biases and norms too: at 0.02, or with biases of 0, faults go unseen.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel

CORPUS = [
    "The ferry leaves the harbour at nine and comes back before the lamps are lit.",
    "A token is a piece of a word; a word is one token or several, as the text will have it.",
    "Der Zug fährt über die Brücke, und die Kinder zählen die Wagen: eins, zwei, drei.",
    "Ada Lovelace met Charles Babbage in London; the engine was never built.",
    "0123456789 [CLS] [SEP] <s> </s> !?.,;:()[]{}",
]
FAMILIES = ("Bert", "Roberta", "XLMRoberta", "DistilBert", "ModernBert")
_SIZES: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 140,
    "initializer_range": 0.3,
}
_OWN: dict[str, dict[str, Any]] = {
    "Bert": {"pad_token_id": 0},
    "Roberta": {"pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": 142},
    "XLMRoberta": {"pad_token_id": 1, "type_vocab_size": 1, "max_position_embeddings": 142},
    "DistilBert": {"dim": 48, "hidden_dim": 80, "n_layers": 4, "n_heads": 4, "pad_token_id": 0},
    # A window of 4 to each side: most of the tests' inputs are longer.
    "ModernBert": {"local_attention": 8, "pad_token_id": 1, "norm_bias": True, "attention_bias": True},
}


def build_encoder(folder: Path, family: str, head: str = "Model", seed: int = 0, **overrides: Any) -> Path:
    """Write a checkpoint of `family` with `head`, the end of a class name in transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = write_tokenizer(folder, family)
    settings = _SIZES | _OWN[family] | {"vocab_size": max(400, tokenizer.get_vocab_size())} | overrides
    if family == "DistilBert":
        settings = {name: value for name, value in settings.items() if name not in _SIZES} | {
            name: settings[name] for name in ("max_position_embeddings", "initializer_range")
        }
    if family == "ModernBert":
        special = {"bos_token_id": 0, "eos_token_id": 2, "cls_token_id": 0, "sep_token_id": 2}
        settings = special | settings
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**settings)
    model: PreTrainedModel = getattr(transformers, f"{family}{head}")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, family: str) -> Tokenizer:
    """Train a tokenizer of the family's kind on a few sentences."""
    tokenizer = {
        "Bert": _word_piece,
        "DistilBert": _word_piece,
        "Roberta": _byte_level,
        "XLMRoberta": _unigram,
        "ModernBert": _byte_level,
    }[family]()
    tokenizer.save(str(folder / "tokenizer.json"))
    word_piece = family in {"Bert", "DistilBert"}
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]" if word_piece else "<pad>",
        "cls_token": "[CLS]" if word_piece else "<s>",
        "sep_token": "[SEP]" if word_piece else "</s>",
        "unk_token": "[UNK]" if word_piece else "<unk>",
        "model_max_length": 140,
    }
    types = ["token_type_ids"] if family == "Bert" else []
    settings["model_input_names"] = ["input_ids", *types, "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer


def _word_piece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer


_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=_SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer
