"""Model files and their rules, against SentencePiece itself; and files that are none."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from farebox_engine import LoadError
from farebox_engine.tokenization.sentencepiece.model_file import PieceKind, PieceModel
from farebox_engine.tokenization.sentencepiece.normalizer import Normalizer
from farebox_engine.tokenization.sentencepiece.protobuf import FormatError, read_fields
from tests.engine.tokenization.sentencepiece.trained import SOURCES, train_pieces

# Keys that begin alike, of ASCII too; what is written has spaces at its ends, two in a row, or nothing.
RULES = {
    "a": "b",
    "ab": " c ",
    "abc": "d  e",
    "é": "",
    "e\u0301x": "ë",
    "\t": " ",
    "\U0001f600": ":)",
    "\U0001f600\u200d": " ",
    "_": "  ",
}
TEXT = st.text(
    st.sampled_from([*"abcdex \t_", "é", "\u0301", "\u200d", "\U0001f600", "\U0001f601", "▁"]), max_size=20
)


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("rules") / "rules.tsv"

    def codes(text: str) -> str:
        return " ".join(f"{ord(character):X}" for character in text)

    path.write_text("".join(f"{codes(key)}\t{codes(text)}\n" for key, text in RULES.items()))
    return path


@pytest.fixture(scope="module", params=[True, False], ids=["trims", "keeps spaces"])
def ruled(
    request: pytest.FixtureRequest, rules: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SentencePieceProcessor, Normalizer]:
    path = tmp_path_factory.mktemp("ruled") / "source.spm"
    library = train_pieces(
        path,
        ["the ferry leaves the harbour at nine", *SOURCES],
        normalization_rule_tsv=str(rules),
        remove_extra_whitespaces=request.param,
    )
    model = PieceModel.load(path)
    return library, Normalizer(model.rules, dummy_prefix=model.dummy_prefix, trims=model.trims)


@settings(max_examples=400, deadline=None)
@given(text=TEXT)
def test_texts_are_rewritten_as_sentencepiece_does(
    ruled: tuple[SentencePieceProcessor, Normalizer], text: str
) -> None:
    library, normalizer = ruled
    assert normalizer.normalize(text) == library.normalize(text)


def test_rules_reach_over_what_is_looked_through_at_once(
    ruled: tuple[SentencePieceProcessor, Normalizer],
) -> None:
    library, normalizer = ruled
    for before in range(65_530, 65_540):
        for key in RULES:
            text = f"{'x' * before}{key}x"
            assert normalizer.normalize(text) == library.normalize(text)


@pytest.mark.parametrize("settings_", [{}, {"byte_fallback": True, "vocab_size": 420}])
def test_pieces_are_those_that_were_trained(settings_: dict[str, int], tmp_path: Path) -> None:
    library = train_pieces(tmp_path / "source.spm", SOURCES, user_defined_symbols=["<x>"], **settings_)
    pieces = PieceModel.load(tmp_path / "source.spm").pieces
    assert [piece.text for piece in pieces] == [library.id_to_piece(n) for n in range(len(library))]
    assert [piece.score for piece in pieces] == [library.get_score(n) for n in range(len(library))]
    for number, piece in enumerate(pieces):
        assert (piece.kind == PieceKind.CONTROL) == library.is_control(number)
        assert (piece.kind == PieceKind.UNKNOWN) == library.is_unknown(number)
        assert (piece.kind == PieceKind.BYTE) == library.is_byte(number)
        assert (piece.kind == PieceKind.USER_DEFINED) == (piece.text == "<x>")


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"model_type": "bpe"}, "is no unigram model"),
        ({"model_type": "char"}, "is no unigram model"),
        ({"treat_whitespace_as_suffix": True}, "has the space behind a word"),
    ],
)
def test_models_of_other_kinds_are_refused(settings_: dict[str, str], words: str, tmp_path: Path) -> None:
    train_pieces(tmp_path / "source.spm", SOURCES, **settings_)
    with pytest.raises(LoadError, match=words):
        PieceModel.load(tmp_path / "source.spm")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    train_pieces(tmp_path / "source.spm", SOURCES)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "source.spm").symlink_to(tmp_path / "source.spm")
    with pytest.raises(LoadError, match="leads out of its folder"):
        PieceModel.load(tmp_path / "folder" / "source.spm")


def damaged(data: bytes) -> Iterator[bytes]:
    """Cut, with other bytes here and there, and with some left out."""
    chance = random.Random(0)
    for _ in range(150):
        place = chance.randrange(len(data))
        yield data[:place]
        yield data[:place] + data[place + chance.randint(1, 5) :]
        changed = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
        yield bytes(changed)


def test_a_damaged_file_is_refused_or_read_but_breaks_nothing(rules: Path, tmp_path: Path) -> None:
    path = tmp_path / "source.spm"
    train_pieces(path, SOURCES[:1], normalization_rule_tsv=str(rules))
    refused = 0
    for data in damaged(path.read_bytes()):
        path.write_bytes(data)
        try:
            model = PieceModel.load(path)
        except LoadError:
            refused += 1
            continue
        assert isinstance(Normalizer(model.rules).normalize("abc e\u0301x"), str)
    assert refused > 100


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"\x08", "does not end"),
        (b"\x08" + b"\xff" * 11, "does not end"),
        (b"\x0a\x05abc", "past the end"),
        (b"\x0b", "wire type 3"),
        (b"\x0d\0\0", "past the end"),
    ],
)
def test_what_is_no_message_is_told(message: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        list(read_fields(message))


def test_fields_come_with_their_numbers() -> None:
    message = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x1d\0\0\x80\x3f" + b"\x21" + bytes(8)
    assert list(read_fields(message)) == [(1, 150), (2, b"hi"), (3, b"\0\0\x80\x3f"), (4, bytes(8))]
