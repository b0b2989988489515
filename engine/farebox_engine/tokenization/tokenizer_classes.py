"""Special tokens that no file of a folder names: those that its class of tokenizer has of itself.

Facts of `transformers` 5 (`AutoTokenizer`, and the defaults of each class), for the classes that read a
tokenizer.json of a kind that is read here. A test holds both against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

_SENTENCEPIECE = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
_MASKED = _SENTENCEPIECE | {
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_END_OF_TEXT = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_QWEN = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")

DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "BartTokenizer": _MASKED,
    "CamembertTokenizer": _MASKED,
    "CodeGenTokenizer": _END_OF_TEXT,
    "CodeLlamaTokenizer": _SENTENCEPIECE,
    "CohereTokenizer": {
        "bos_token": "<BOS_TOKEN>",
        "eos_token": "<|END_OF_TURN_TOKEN|>",
        "unk_token": "<UNK>",
        "sep_token": "<SEP>",
        "pad_token": "<PAD>",
        "cls_token": "<CLS>",
        "mask_token": "<MASK_TOKEN>",
    },
    "GPT2Tokenizer": _END_OF_TEXT,
    "GPTNeoXTokenizer": _END_OF_TEXT | {"pad_token": "<|padding|>"},
    "GemmaTokenizer": {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
    "LEDTokenizer": _MASKED,
    "LlamaTokenizer": _SENTENCEPIECE,
    "MBartTokenizer": _MASKED,
    "NllbTokenizer": _MASKED,
    "PegasusTokenizer": {
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask_2>",
    },
    "Qwen2Tokenizer": _QWEN,
    "Qwen3_5Tokenizer": _QWEN,
    "RobertaTokenizer": _MASKED,
    "T5Tokenizer": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "XLMRobertaTokenizer": _MASKED,
}

# Where neither settings nor config.json name a class.
_OF_MODELS = {
    "bart": "RobertaTokenizer",
    "gemma2": "GemmaTokenizer",
    "gemma3_text": "GemmaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "qwen3_moe": "Qwen2Tokenizer",
    "t5": "T5Tokenizer",
}
# Whose settings are known to name a wrong one: it is not asked for.
_ALWAYS = {"qwen2": "Qwen2Tokenizer", "mistral": None, "mixtral": None, "phi3": None}


def default_tokens(
    config: Mapping[str, object], settings: Mapping[str, object], description: Mapping[str, object]
) -> Mapping[str, str]:
    """Names such as "bos_token" to the tokens that they mean where no file says otherwise.

    These are the contents of config.json, tokenizer_config.json and tokenizer.json.
    """
    return DEFAULTS.get(_class(config, settings, description) or "", {})


def _class(
    config: Mapping[str, object], settings: Mapping[str, object], description: Mapping[str, object]
) -> str | None:
    model_type = str(config.get("model_type"))
    if model_type in _ALWAYS:
        return _ALWAYS[model_type]
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if not isinstance(named, str):
        return _OF_MODELS.get(model_type)
    named = named.removesuffix("Fast")
    # Llama 3's says so of itself, and is none.
    return None if named == "LlamaTokenizer" and _is_byte_level(description) else named


def _is_byte_level(description: Mapping[str, object]) -> bool:
    kinds = [*_kinds(description.get("pre_tokenizer")), *_kinds(description.get("decoder"))]
    return "ByteLevel" in kinds


def _kinds(part: object) -> Iterator[object]:
    """The types of a pre-tokenizer or decoder, and of those that it is made of."""
    if isinstance(part, Mapping):
        yield part.get("type")
        for key in ("pretokenizers", "decoders"):
            for inner in part.get(key) or ():
                yield from _kinds(inner)
