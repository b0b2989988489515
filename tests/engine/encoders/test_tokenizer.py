"""Inputs as `transformers` makes them, but for special tokens that a text spells."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from farebox_engine.encoders import load_encoder
from farebox_engine.encoders.tokenizer import EncoderTokenizer, Text, Tokens
from farebox_engine.errors import RequestError
from tests.engine.encoders.checkpoints import FAMILIES, build_encoder

Given = Text | tuple[str, str]

TEXTS: list[Given] = [
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


def encoded(tokenizer: EncoderTokenizer, texts: list[Given], *, truncate: bool = False) -> list[Tokens]:
    """Each text, or pair of texts, by its own way."""
    return [
        tokens
        for text in texts
        for tokens in (
            tokenizer.encode_pairs(text[0], [text[1]], truncate=truncate)
            if isinstance(text, tuple)
            else tokenizer.encode([text], truncate=truncate)
        )
    ]


def test_ids_and_types_agree_with_transformers(path: Path) -> None:
    tokenizer, reference = load(path), PreTrainedTokenizerFast.from_pretrained(path)
    for text, found in zip(TEXTS, encoded(tokenizer, TEXTS), strict=True):
        pair: Any = (text,) if isinstance(text, str) else text
        expected: Any = reference(*pair)
        assert found.ids.tolist() == expected["input_ids"]
        assert found.types.tolist() == expected.get("token_type_ids", [0] * len(found))


def test_what_is_too_long_is_cut_as_transformers_does(path: Path) -> None:
    tokenizer, reference = load(path), PreTrainedTokenizerFast.from_pretrained(path)
    texts: list[Given] = ["nine " * 150, ("who met", "ferry " * 200), ("harbour " * 90, "ferry " * 80)]
    for text, found in zip(texts, encoded(tokenizer, texts, truncate=True), strict=True):
        pair: Any = (text,) if isinstance(text, str) else text
        expected: Any = reference(*pair, truncation="longest_first", max_length=140)
        assert len(found) == 140
        assert found.ids.tolist() == expected["input_ids"]


def test_one_text_goes_with_each_of_many(path: Path) -> None:
    tokenizer, reference = load(path), PreTrainedTokenizerFast.from_pretrained(path)
    documents = ["nine", "harbour " * 90, "ferry " * 200]
    for document, found in zip(
        documents, tokenizer.encode_pairs("ferry " * 80, documents, truncate=True), strict=True
    ):
        expected: Any = reference("ferry " * 80, document, truncation="longest_first", max_length=140)
        assert found.ids.tolist() == expected["input_ids"]
    with pytest.raises(RequestError, match="Input 3 has"):
        tokenizer.encode_pairs("who met", ["nine", "", "met", "ferry " * 200])


def test_a_tokenizer_that_puts_nothing_around_pairs_still_tells_their_parts(tmp_path: Path) -> None:
    folder = build_encoder(tmp_path, "Bert", num_hidden_layers=1)
    description = json.loads((folder / "tokenizer.json").read_text()) | {"post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(description))
    whole = Tokenizer.from_file(str(folder / "tokenizer.json")).encode("who met", "Ada")
    (found,) = load(folder).encode_pairs("who met", ["Ada"])
    assert (found.ids.tolist(), found.types.tolist()) == (whole.ids, whole.type_ids)


def test_a_text_that_spells_a_special_token_is_only_text(path: Path) -> None:
    special = {
        entry["content"]: entry["id"]
        for entry in json.loads((path / "tokenizer.json").read_text())["added_tokens"]
    }
    tokenizer = load(path)
    spelled = [f"the {name} ferry{name}" for name in special if "unk" not in name.lower()]
    for text in spelled:
        single, pair = encoded(tokenizer, [text, (text, text)])
        own = set(special.values())
        assert sum(token in own for token in single.ids.tolist()) == 2
        assert sum(token in own for token in pair.ids.tolist()) in {3, 4}
        assert len(single) > len(tokenizer.encode(["the  ferry"])[0])
