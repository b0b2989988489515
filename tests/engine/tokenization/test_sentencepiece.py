"""Tokenizers of the Llama, Mistral, Phi-3 and Gemma kind: "▁" for a space, bytes for what is unknown."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from farebox_engine.tokenization.detokenizer import Detokenizer
from farebox_engine.tokenization.tokenizer import ChatTokenizer

CONTROLS = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
# Runs of spaces and line ends are added tokens in Gemma, but ordinary text.
RUNS = ["▁▁", "▁▁▁▁", "\n\n"]
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = ["the ferry leaves the harbour at nine", "die Brücke über den Zug", "a token is a word  or two"] * 4
TEXT = st.text(st.sampled_from([*"the ferry \n  Brückeßñ渡é👩", "▁", ">", "\u0301"]), max_size=24)


def _tokenizer(kind: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    spaces = normalizers.Replace(" ", "▁")
    plain: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "llama":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
        tokenizer.decoder = decoders.Sequence([*plain, decoders.Strip(" ", 1, 0)])
    elif kind == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
        tokenizer.decoder = decoders.Sequence([*plain, decoders.Strip(" ", 1, 0)])
    else:
        tokenizer.normalizer = spaces
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        tokenizer.decoder = decoders.Sequence(plain)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=[*CONTROLS, *bytes_], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@pytest.fixture(scope="module", params=["llama", "metaspace", "gemma"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = _tokenizer(request.param)
    description = json.loads(tokenizer.to_str())
    # The trainer knows bytes only as special tokens; in a checkpoint they are ordinary ones.
    description["added_tokens"] = [
        entry for entry in description["added_tokens"] if entry["content"] in CONTROLS
    ]
    if request.param == "gemma":
        size = len(description["model"]["vocab"])
        entry = description["added_tokens"][0]
        description["added_tokens"] += [
            entry | {"id": size + index, "content": run, "special": False, "normalized": False}
            for index, run in enumerate(RUNS)
        ]
    path: Path = tmp_path_factory.mktemp(request.param)
    (path / "tokenizer.json").write_text(json.dumps(description))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "chat_template": TEMPLATE,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ChatTokenizer:
    return ChatTokenizer.load(folder, 400)


@pytest.fixture(scope="module")
def library(folder: Path) -> Any:
    return PreTrainedTokenizerFast.from_pretrained(folder)


@settings(max_examples=80, deadline=None)
@given(text=TEXT)
def test_text_is_encoded_as_transformers_does(tokenizer: ChatTokenizer, library: Any, text: str) -> None:
    assert tokenizer.encode(text) == library(text)["input_ids"]


@settings(max_examples=80, deadline=None)
@given(contents=st.lists(TEXT, min_size=1, max_size=3))
def test_chats_are_rendered_as_transformers_does(
    tokenizer: ChatTokenizer, library: Any, contents: list[str]
) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    expected = library.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert tokenizer.render_chat(messages) == expected


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(st.one_of(TEXT, st.sampled_from(RUNS)), max_size=4))
def test_tokens_become_text_as_the_library_has_it(
    folder: Path, tokenizer: ChatTokenizer, texts: list[str]
) -> None:
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens = [token for text in texts for token in tokenizer.encode(text)]
    detokenizer = Detokenizer(tokenizer.vocabulary, starts_text=True)
    text = "".join(detokenizer.feed(token) for token in tokens)
    assert text == library.decode(tokens, skip_special_tokens=True)


@settings(max_examples=80, deadline=None)
@given(parts=st.lists(st.sampled_from([*CONTROLS, "a", " ", "<", "▁", "\n\n", "渡"]), max_size=8))
def test_users_cannot_write_control_tokens(tokenizer: ChatTokenizer, parts: list[str]) -> None:
    text = "".join(parts)
    assert not set(range(5)) & set(tokenizer.encode(text))
    tokens = tokenizer.render_chat([{"role": "user", "content": text}])
    assert [token for token in tokens if token < 5] == [1, 3, 2, 4]


@pytest.mark.parametrize("word", ["lamp", "nine ferry", "渡", "Zug  at", "ñ."])
@pytest.mark.parametrize("before", ["", "the ", "nine\n", "two  "])
def test_a_word_is_spelled_as_it_is_wherever_it_stands(
    tokenizer: ChatTokenizer, word: str, before: str
) -> None:
    tokens = tuple(tokenizer.encode_plainly(before + word))
    spellings = tokenizer.spellings(f" {word}")
    assert any(tokens[-len(spelling) :] == spelling for spelling in spellings)
    text = {b"".join(map(tokenizer.vocabulary.bytes_of, spelling)).decode() for spelling in spellings}
    assert {one.strip() for one in text} == {word}
