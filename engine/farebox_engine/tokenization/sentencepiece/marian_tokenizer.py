"""Marian's tokenizer as OPUS-MT publishes it: SentencePiece files, and vocab.json, which numbers the pieces.

As `MarianTokenizer` of `transformers` 5 has it, with one exception: special tokens that a text spells are
encoded as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from farebox_engine.checkpoint.json_file import read_json, read_optional_json
from farebox_engine.errors import LoadError
from farebox_engine.tokenization.sentencepiece.model_file import PieceKind, PieceModel
from farebox_engine.tokenization.sentencepiece.segmenter import Segmenter
from farebox_engine.tokenization.special_tokens import Description, SpecialTokens, added_tokens, build
from farebox_engine.tokenization.vocabulary import Vocabulary

SOURCE, TARGET = "source.spm", "target.spm"
_NUMBERS, _TARGET_NUMBERS = "vocab.json", "target_vocab.json"
_NAMES = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}


@dataclass(frozen=True, slots=True)
class _Special:
    """The special tokens of a folder, under their numbers, and which are the unknown one and the end."""

    numbers: Mapping[str, int]
    unknown: str
    end: str

    @classmethod
    def read(cls, folder: Path, numbers: Mapping[str, int], settings: Mapping[str, object]) -> _Special:
        """Raises LoadError: a token is missing or malformed, or is none that is special."""
        names = {**_NAMES, **settings}
        tokens = SpecialTokens(folder, _naming(numbers, _NAMES["unk_token"]), names)
        unknown, end = (
            _numbered(tokens.names.get(name), name, numbers) for name in ("unk_token", "eos_token")
        )
        added = added_tokens(tokens.add_to(_naming(numbers, unknown)))
        plain = next((entry["content"] for entry in added if not entry.get("special")), None)
        if plain is not None:
            raise LoadError(f"its settings add {plain!r}, which is no special token; that is not supported.")
        return cls({str(entry["content"]): cast(int, entry["id"]) for entry in added}, unknown, end)


def _numbered(token: str | None, name: str, numbers: Mapping[str, int]) -> str:
    if token is None or token not in numbers:
        raise LoadError(f"{_NUMBERS} has no {token!r}, which is the {name}; copy it again.")
    return token


class MarianTokenizer:
    """Sources from texts, and the vocabulary that targets are read by. Safe to use from several threads."""

    def __init__(
        self,
        segmenter: Segmenter,
        numbers: Mapping[str, int],
        special: _Special,
        vocabulary: Vocabulary,
    ) -> None:
        """`numbers` are those of a source's pieces; `vocabulary` is the target's."""
        self._segmenter = segmenter
        self._numbers = {piece: number for piece, number in numbers.items() if piece not in special.numbers}
        self._languages = {**special.numbers, **numbers}
        self._unknown = special.numbers[special.unknown]
        self._end = special.numbers[special.end]
        self.vocabulary = vocabulary

    @classmethod
    def load(
        cls, folder: Path, source_size: int, target_size: int, *, separate: bool = False
    ) -> MarianTokenizer:
        """Read a folder's files, for a model with so many rows for either side.

        `separate`: each side has a vocabulary of its own, and the target's is in target_vocab.json.

        Raises:
            LoadError: a file is missing or broken, or has tokens the model does not know.
        """
        settings = read_optional_json(folder / "tokenizer_config.json")
        _refuse_settings(folder, settings, separate)
        source = PieceModel.load(folder / SOURCE)
        numbers = _read_numbers(folder / _NUMBERS, source_size)
        if separate:
            target = PieceModel.load(folder / TARGET)
            target_numbers = _read_numbers(folder / _TARGET_NUMBERS, target_size)
        else:
            target, target_numbers = source, numbers
        try:
            special = _Special.read(folder, numbers, settings)
            return cls(Segmenter(source), numbers, special, _vocabulary(target, target_numbers, special))
        except LoadError as error:
            raise LoadError(f"{folder}: {error}") from error

    def encode(self, text: str) -> list[int]:
        """The tokens of a source, and its end. It may begin with the language asked for, as `>>fra<<`."""
        language, rest = _language(text)
        found = [self._languages.get(language, self._unknown)] if language else []
        found += [self._numbers.get(piece, self._unknown) for piece in self._segmenter.pieces(rest)]
        return [*found, self._end]


def _language(text: str) -> tuple[str, str]:
    """The name of a language that a text begins with, or nothing, and the rest of it."""
    end = text.find("<<") + 2 if text.startswith(">>") else 0
    return (text[:end], text[end:]) if end > 1 else ("", text)


def _refuse_settings(folder: Path, settings: Mapping[str, object], separate: bool) -> None:
    where = f"{folder}/tokenizer_config.json"
    if settings.get("sp_model_kwargs"):
        raise LoadError(f"{where} has sp_model_kwargs, which change how texts are cut; take them out.")
    if bool(settings.get("separate_vocabs")) != separate:
        found = "separate vocabularies" if separate else "one vocabulary"
        raise LoadError(f"{where} has another separate_vocabs than the model, which has {found}; mend it.")


def _read_numbers(path: Path, size: int) -> dict[str, int]:
    """The number of each piece. Raises LoadError if one is none of the model's `size` rows."""
    numbers = read_json(path)
    for piece, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < size:
            raise LoadError(
                f"{path} numbers {piece[:32]!r} as {number!r}, but the model has {size} tokens; use the "
                "vocabulary that the model was trained with."
            )
    return cast(dict[str, int], numbers)


def _vocabulary(model: PieceModel, numbers: Mapping[str, int], special: _Special) -> Vocabulary:
    """What the tokens of a target stand for. Its special tokens are known by name: they may have other
    numbers than the source's."""
    silent = (*special.numbers, *(piece.text for piece in model.of_kind(PieceKind.CONTROL)))
    added = [{"id": numbers[text], "content": text, "special": True} for text in silent if text in numbers]
    description = _naming(numbers, special.unknown)
    return Vocabulary(build(description), {**description, "added_tokens": added}, trims=True)


def _naming(numbers: Mapping[str, int], unknown: str) -> Description:
    """A tokenizer.json that has the names of tokens, and cuts nothing."""
    return {
        "model": {"type": "WordLevel", "vocab": dict(numbers), "unk_token": unknown},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False},
        "added_tokens": [],
    }
