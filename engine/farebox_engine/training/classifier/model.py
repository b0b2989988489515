"""The model that a classifier's training begins with, and the folder that it ends in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from farebox_engine.checkpoint.fields import Fields
from farebox_engine.checkpoint.files import weight_files
from farebox_engine.checkpoint.json_file import read_json, read_optional_json
from farebox_engine.checkpoint.tensors import Tensors
from farebox_engine.encoders.models.config import Task
from farebox_engine.encoders.models.registry import ENCODERS, EncoderFamily, EncoderModel
from farebox_engine.encoders.models.weights import initialise, load_encoder_weights, named_encoder_weights
from farebox_engine.encoders.tokenizer import EncoderTokenizer

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ARCHITECTURES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "modernbert": "ModernBert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
}


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """A small encoder of BERT's kind, to be trained from nothing."""

    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    vocab_size: int = 8000


@dataclass(frozen=True, slots=True)
class ClassifierModel:
    """A model and, as JSON, everything a folder with it needs."""

    model: EncoderModel
    family: EncoderFamily
    tokenizer: EncoderTokenizer
    window: int | None
    files: Mapping[str, Mapping[str, object]]


def from_encoder(folder: Path, labels: Sequence[str], max_length: int, dropout: float) -> ClassifierModel:
    """An encoder from a Hugging Face folder, with a head of its own for ``labels``.

    Raises:
        LoadError, ConfigError: the folder cannot be used.
    """
    tokenizer_files = {
        name: read_optional_json(folder / name) for name in ("tokenizer.json", "tokenizer_config.json")
    }
    classifier = _build(read_json(folder / "config.json"), tokenizer_files, labels, max_length, dropout)
    with Tensors(weight_files(folder)) as tensors:
        load_encoder_weights(classifier.model, tensors, names=classifier.family.names, new_head=True)
    return classifier


def from_nothing(
    shape: EncoderShape, texts: Sequence[str], labels: Sequence[str], max_length: int, dropout: float
) -> ClassifierModel:
    """A new encoder, with a WordPiece tokenizer trained on ``texts``.

    Raises:
        ConfigError: the sizes do not fit each other.
    """
    tokenizer = _train_tokenizer(texts, shape.vocab_size)
    description: dict[str, object] = {
        "model_type": "bert",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": shape.hidden_size,
        "intermediate_size": 4 * shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "hidden_act": "gelu",
        "max_position_embeddings": max_length,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
        "initializer_range": 0.02,
    }
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    settings = {
        "tokenizer_class": "BertTokenizerFast",
        "model_max_length": max_length,
        **dict(zip(names, _SPECIAL, strict=True)),
    }
    files = {"tokenizer.json": json.loads(tokenizer.to_str()), "tokenizer_config.json": settings}
    return _build(description, files, labels, max_length, dropout)


def write_classifier(folder: Path, classifier: ClassifierModel, card: str) -> None:
    """Write config, weights, tokenizer and model card."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.float().contiguous()
        for name, tensor in named_encoder_weights(classifier.model, classifier.family.names)
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    # safetensors writes for the owner only, which would make an installed model unreadable to others.
    (folder / "model.safetensors").chmod(0o644)
    for name, content in classifier.files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def _build(
    description: Mapping[str, object],
    tokenizer_files: Mapping[str, Mapping[str, object]],
    labels: Sequence[str],
    max_length: int,
    dropout: float,
) -> ClassifierModel:
    family = ENCODERS.of(description)
    named = {str(number): label for number, label in enumerate(labels)}
    dropped = ("auto_map", "quantization_config", "_name_or_path", "num_labels")
    full = {name: value for name, value in description.items() if name not in dropped} | {
        "architectures": [f"{_ARCHITECTURES[str(description['model_type'])]}ForSequenceClassification"],
        "id2label": named,
        "label2id": {label: int(number) for number, label in named.items()},
        "problem_type": "single_label_classification",
        "dtype": "float32",
    }
    config = family.read_config(Fields(full, "config.json"))
    tokenizer = EncoderTokenizer(
        tokenizer_files["tokenizer.json"],
        config,
        max_length=min(max_length, config.max_length),
        lower_case=False,
    )
    model = family.build(config, Task.CLASSIFY, dropout)
    initialise(model, config.initializer_range)
    return ClassifierModel(
        model, family, tokenizer, getattr(config, "window", None), {"config.json": full, **tokenizer_files}
    )


def _train_tokenizer(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106  # a token, no secret
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, special_tokens=_SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return tokenizer
