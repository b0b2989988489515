"""Folders with a tiny tokenizer, whose tokens and templates stand in whatever file a test puts them."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

SPECIAL = ["<|start|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|tool|>"]
ORDINARY = ["<think>", "</think>", "<tool_call>", "</tool_call>"]
ROWS = 256 + len(SPECIAL) + len(ORDINARY)


def write_folder(folder: Path, files: dict[str, Any], **settings: Any) -> Path:
    """A byte-level tokenizer, a tokenizer_config.json of `settings`, and `files`: texts, or else JSON.

    tokenizer.json of `files` is merged into the tokenizer's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: number for number, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in ORDINARY])
    files = {"config.json": {"model_type": "llama"}} | files
    described = json.loads(tokenizer.to_str()) | files.pop("tokenizer.json", {})
    config = {"tokenizer_class": "PreTrainedTokenizerFast"} | settings
    files |= {
        "tokenizer.json": described,
        "tokenizer_config.json": config,
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def entry(content: str, **flags: bool) -> dict[str, object]:
    """A token as tokenizer_config.json's added_tokens_decoder describes it."""
    plain = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    return {"content": content, **plain, "special": True} | flags


def reference(folder: Path) -> Any:
    """What `transformers` makes of a folder."""
    return AutoTokenizer.from_pretrained(folder)
