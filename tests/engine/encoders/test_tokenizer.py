"""Inputs as `transformers` makes them, but for special tokens that a text spells."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from farebox_engine.encoders import load_encoder
from farebox_engine.encoders.tokenizer import EncoderTokenizer, Text
from tests.engine.encoders.checkpoints import FAMILIES, build_encoder

TEXTS: list[Text] = [
    "The ferry leaves at nine.",
    "Der Zug fährt über die Brücke 🚂",
    "",
    ("who met in London?", "Ada Lovelace met Charles Babbage"),
]


@pytest.fixture(params=FAMILIES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return build_encoder(tmp_path, request.param, num_hidden_layers=1)


def load(path: Path) -> EncoderTokenizer:
    return load_encoder(path, device=torch.device("cpu"), dtype=torch.float32).tokenizer


def test_ids_and_types_agree_with_transformers(path: Path) -> None:
    tokenizer, reference = load(path), PreTrainedTokenizerFast.from_pretrained(path)
    for text, found in zip(TEXTS, tokenizer.encode(TEXTS), strict=True):
        pair: Any = (text,) if isinstance(text, str) else text
        expected: Any = reference(*pair)
        assert found.ids.tolist() == expected["input_ids"]
        assert found.types.tolist() == expected.get("token_type_ids", [0] * len(found))


def test_what_is_too_long_is_cut_as_transformers_does(path: Path) -> None:
    tokenizer, reference = load(path), PreTrainedTokenizerFast.from_pretrained(path)
    texts: list[Text] = ["nine " * 150, ("who met", "ferry " * 200), ("harbour " * 90, "ferry " * 80)]
    for text, found in zip(texts, tokenizer.encode(texts, truncate=True), strict=True):
        pair: Any = (text,) if isinstance(text, str) else text
        expected: Any = reference(*pair, truncation="longest_first", max_length=140)
        assert len(found) == 140
        assert found.ids.tolist() == expected["input_ids"]


def test_a_text_that_spells_a_special_token_is_only_text(path: Path) -> None:
    special = {
        entry["content"]: entry["id"]
        for entry in json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    }
    tokenizer = load(path)
    spelled = [f"the {name} ferry{name}" for name in special if "unk" not in name.lower()]
    for text in spelled:
        single, pair = tokenizer.encode([text, (text, text)])
        own = set(special.values())
        assert sum(token in own for token in single.ids.tolist()) == 2
        assert sum(token in own for token in pair.ids.tolist()) in {3, 4}
        assert len(single) > len(tokenizer.encode(["the  ferry"])[0])
