"""Folders as OPUS-MT publishes them, against `transformers`' MarianTokenizer, which runs SentencePiece."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine import LoadError
from farebox_engine.tokenization.detokenizer import Detokenizer
from farebox_engine.tokenization.sentencepiece.marian_tokenizer import MarianTokenizer
from farebox_engine.tokenization.transcript import Transcript
from tests.engine.tokenization.sentencepiece.trained import (
    END,
    LANGUAGES,
    PAD,
    SOURCES,
    TARGETS,
    UNKNOWN,
    load_library,
    write_marian_tokenizer,
)

KINDS: dict[str, dict[str, Any]] = {
    "published": {},
    "separate": {"separate": True},
    "bytes": {"byte_fallback": True, "vocab_size": 420},
    "symbols": {"user_defined_symbols": ["ferry", "<x>", "ﬁ", "e"]},
    "unnormalised": {"normalization_rule_name": "identity"},
    "folded": {"normalization_rule_name": "nmt_nfkc_cf", "add_dummy_prefix": False},
    "spaced": {"remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True},
    "runs": {"remove_extra_whitespaces": False, "user_defined_symbols": ["▁▁", "the", "he"]},
}
NASTY = [
    *[
        "the ferry",
        "e",
        "aaa",
        "oo",
        "Hafen",
        "渡轮",
        "ß",
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\0",
        "\x01",
        "\x7f",
    ],
    *["\u0301", "e\u0301", "ﬁ", "ﷺ", "½", "①", "Å", "ǅ", "각", "\u1100\u1161\u11a8", "ﾊﾞ", "\u3000", "\u00a0"],
    *["\u200b", "\u2581", "\ufeff", "\ufffd", "👩\u200d👩", "\U0010ffff", "<x>", "…", "“", ">>", "<<"],
]
TEXT = st.one_of(
    st.text(max_size=40), st.lists(st.sampled_from(NASTY), max_size=24).map("".join), st.sampled_from(SOURCES)
)
CONTROLS = [END, UNKNOWN, PAD]


class Folder:
    """A folder of a kind, read by both."""

    def __init__(self, path: Path, **kind: Any) -> None:
        self.path = path
        self.separate = bool(kind.get("separate"))
        self.sizes = write_marian_tokenizer(path, **kind)
        self.ours = MarianTokenizer.load(path, *self.sizes, separate=self.separate)
        self.library: Any = load_library(path)

    def check(self, text: str) -> None:
        """Both encode a text alike. Of segmentations that are equally likely, each may take another.

        Theirs adds scores in single precision, so that rounding decides between "aa a" and "a aa".
        """
        found, wanted = self.ours.encode(text), self.library(text, verbose=False)["input_ids"]
        if found != wanted:
            assert sorted(found) == sorted(wanted)
            assert self.library.decode(found) == self.library.decode(wanted)

    def decoded(self, tokens: list[int]) -> str:
        detokenizer = Detokenizer(self.ours.vocabulary, starts_text=True)
        return "".join(map(detokenizer.feed, tokens))


@pytest.fixture(scope="module", params=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp(request.param), **KINDS[request.param])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("published"))


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_sources_are_encoded_as_transformers_does(folder: Folder, text: str) -> None:
    folder.check(text)


@pytest.mark.parametrize("text", ["", " ", "\t \n", "\x01", "\u2581", "\0", *NASTY, *SOURCES, *TARGETS])
def test_every_kind_of_text_is_encoded_as_transformers_does(folder: Folder, text: str) -> None:
    for whole in (text, f"{text}{text}", f"the {text} ferry", f"  {text}  "):
        folder.check(whole)


def test_long_texts_are_encoded_as_transformers_does(folder: Folder) -> None:
    parts = random.Random(1).choices([*SOURCES, *TARGETS, *NASTY], k=8_000)
    text = " ".join(parts)
    # Longer than what is looked through at once.
    assert len(text) > 100_000
    folder.check(text)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_targets_are_decoded_as_transformers_does(folder: Folder, data: st.DataObject) -> None:
    encoder = folder.library.target_encoder if folder.separate else folder.library.encoder
    # Half a character is spelled in another way: as one replacement, not one for each byte.
    odd = {number for piece, number in encoder.items() if piece.startswith("<0x")}
    if folder.separate:
        # It takes the number of the source's padding for the target's.
        odd |= {encoder[PAD], folder.library.pad_token_id}
    pieces = st.integers(0, folder.sizes[1] - 1).filter(lambda number: number not in odd)
    spaces = [encoder["▁"]] if "▁" in encoder else []
    tokens = data.draw(st.lists(st.one_of(pieces, *map(st.just, spaces)), max_size=12))
    assert folder.decoded(tokens) == folder.library.decode(tokens, skip_special_tokens=True)


def test_no_padding_of_a_target_is_shown_and_no_piece_taken_for_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path, separate=True)
    encoder = folder.library.target_encoder
    same = next(piece for piece, number in encoder.items() if number == folder.library.pad_token_id)
    assert same != PAD
    tokens = [encoder[PAD], encoder[same], encoder[END]]
    assert folder.decoded(tokens) == same.replace("▁", " ").strip()


def test_white_space_waits_for_what_follows_it(published: Folder) -> None:
    space, letter = published.library.encoder["▁"], published.library.encoder["s"]
    transcript = Transcript(published.ours.vocabulary, (), ())
    seen = []
    for token in (space, letter, space, space, letter, space):
        transcript.feed(token, None)
        chunk = transcript.take()
        seen.append((chunk.text, chunk.token_ids))
    assert seen[0] == ("", (space,))
    assert seen[1:3] == [("s", (letter,)), ("", ())]
    assert seen[3:5] == [("", ()), ("  s", (space, space, letter))]
    last = transcript.finish()
    assert (seen[5], last.text, last.token_ids) == (("", ()), "", (space,))


def test_bytes_of_a_target_become_characters(tmp_path: Path) -> None:
    folder = Folder(tmp_path, **KINDS["bytes"])
    tokens = folder.ours.encode("渡 👩 ñandú")
    assert len(tokens) > 15
    assert folder.decoded(tokens) == folder.library.decode(tokens, skip_special_tokens=True) == "渡 👩 ñandú"


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"{language}{rest}"
            for language in LANGUAGES
            for rest in ("", " The ferry", "The ferry", ">>deu<<")
        ),
        *[">>xxx<< The ferry", " >>deu<< The ferry", "The >>deu<< ferry", ">>deu The ferry", ">><<a", ">><"],
    ],
)
def test_a_text_may_begin_with_its_language(published: Folder, text: str) -> None:
    found = published.ours.encode(text)
    assert found == published.library(text)["input_ids"]
    known = {published.library.encoder[language] for language in LANGUAGES}
    assert (found[0] in known) == text.startswith(tuple(LANGUAGES))


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.sampled_from([*CONTROLS, "a", " ", "<", "▁", "渡", "/"]), max_size=8))
def test_users_cannot_write_special_tokens(published: Folder, parts: list[str]) -> None:
    text = "".join(parts)
    found = published.ours.encode(text)
    special = {published.library.encoder[control] for control in (END, PAD)}
    assert not special & set(found[:-1])
    assert found[-1] == published.library.eos_token_id
    whole = published.library(text, split_special_tokens=True)["input_ids"]
    # It finds one where a run of what is unknown spells it.
    unknown = published.library.unk_token_id
    assert found[:-1] == [unknown if token in special else token for token in whole[:-1]]


def test_a_run_of_the_unknown_is_no_special_token(tmp_path: Path) -> None:
    sizes = write_marian_tokenizer(tmp_path)
    edit(tmp_path / "vocab.json", **{PAD: ..., "##": sizes[0] - 1})
    edit(tmp_path / "tokenizer_config.json", pad_token="##")
    ours, library = MarianTokenizer.load(tmp_path, *sizes), load_library(tmp_path)
    assert library("the ##", split_special_tokens=True)["input_ids"][-2] == library.pad_token_id
    assert ours.encode("the ##")[-2] == library.unk_token_id


def test_a_language_may_be_a_special_token(tmp_path: Path) -> None:
    sizes = write_marian_tokenizer(tmp_path)
    edit(tmp_path / "tokenizer_config.json", additional_special_tokens=LANGUAGES)
    ours, library = MarianTokenizer.load(tmp_path, *sizes), load_library(tmp_path)
    text = ">>deu<< The ferry leaves."
    assert ours.encode(text) == library(text)["input_ids"]
    assert ours.encode(text)[0] == library.encoder[">>deu<<"]
    assert library.encoder[">>deu<<"] not in ours.encode(f"The {text}")


def test_settings_may_name_the_tokens_otherwise(tmp_path: Path) -> None:
    sizes = write_marian_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    plain = MarianTokenizer.load(tmp_path, *sizes)
    assert plain.encode("The ferry 渡#") == load_library(tmp_path)("The ferry 渡#")["input_ids"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": PAD, "pad_token": END}))
    renamed, library = MarianTokenizer.load(tmp_path, *sizes), load_library(tmp_path)
    assert renamed.encode("The ferry") == library("The ferry")["input_ids"]
    assert renamed.encode("The ferry")[-1] == library.encoder[PAD]


@pytest.mark.parametrize("kind", ["published", "separate"])
def test_what_transformers_writes_is_read(kind: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "first", **KINDS[kind])
    folder.library.save_pretrained(tmp_path / "again")
    ours = MarianTokenizer.load(tmp_path / "again", *folder.sizes, separate=folder.separate)
    for text in (*SOURCES, ">>deu<< ß 渡"):
        assert ours.encode(text) == load_library(tmp_path / "again")(text)["input_ids"]


def edit(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def damage(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "source.spm").unlink(), r"no source\.spm"),
        (lambda folder: (folder / "vocab.json").unlink(), r"no vocab\.json"),
        (lambda folder: edit(folder / "vocab.json", the=10_000), "as 10000, but the model has"),
        (lambda folder: edit(folder / "vocab.json", the=True), "as True, but the model has"),
        (lambda folder: edit(folder / "vocab.json", **{UNKNOWN: ...}), "has no '<unk>'"),
        (lambda folder: edit(folder / "vocab.json", **{END: ...}), "has no '</s>'"),
        (lambda folder: edit(folder / "tokenizer_config.json", eos_token=None), "has no None"),
        (
            lambda folder: edit(folder / "tokenizer_config.json", sp_model_kwargs={"alpha": 0.1}),
            "sp_model_kwargs",
        ),
        (lambda folder: edit(folder / "tokenizer_config.json", separate_vocabs=True), "separate_vocabs"),
        (
            lambda folder: (folder / "added_tokens.json").write_text(json.dumps({"the": 5})),
            "add 'the', which is no special token",
        ),
        (damage("source.spm", lambda data: data[:-1]), "no SentencePiece model"),
        (damage("source.spm", lambda data: b""), "no SentencePiece model"),
        (damage("source.spm", lambda data: b"\0" * 100), "no SentencePiece model"),
    ],
)
def test_folders_that_cannot_be_read_are_refused(
    spoil: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    sizes = write_marian_tokenizer(tmp_path)
    spoil(tmp_path)
    with pytest.raises(LoadError, match=words):
        MarianTokenizer.load(tmp_path, *sizes)


def test_two_vocabularies_need_their_files(tmp_path: Path) -> None:
    sizes = write_marian_tokenizer(tmp_path, separate=True)
    with pytest.raises(LoadError, match="which has one vocabulary"):
        MarianTokenizer.load(tmp_path, *sizes)
    for name in ("target_vocab.json", "target.spm"):
        (tmp_path / name).unlink()
        with pytest.raises(LoadError, match=f"no {name}"):
            MarianTokenizer.load(tmp_path, *sizes, separate=True)
