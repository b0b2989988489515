"""SentencePiece's model file: a `ModelProto` (src/sentencepiece_model.proto in google/sentencepiece)."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from farebox_engine.checkpoint.symlinks import refuse_special_file
from farebox_engine.errors import LoadError
from farebox_engine.tokenization.sentencepiece.charsmap import Charsmap
from farebox_engine.tokenization.sentencepiece.protobuf import FormatError, read_fields

# The largest known, with 256,000 pieces, has 5 MB.
_MAX_BYTES = 16 << 20
_UNIGRAM = 1

# The numbers of fields.
_PIECES, _TRAINER, _NORMALIZER, _DENORMALIZER = 1, 2, 3, 5
_TEXT, _SCORE, _KIND = 1, 2, 3
_MODEL_TYPE, _SPACE_AS_SUFFIX, _BYTE_FALLBACK = 3, 24, 35
_CHARSMAP, _DUMMY_PREFIX, _TRIMS, _ESCAPES = 2, 3, 4, 5

# The last value of each field, as a message that has one twice means it.
_Values = Mapping[int, int | bytes]


class PieceKind(IntEnum):
    """What a piece is for. Only normal and user-defined ones are found in a text."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a vocabulary; `score` is its log probability."""

    text: str
    score: float
    kind: PieceKind


@dataclass(frozen=True, slots=True)
class PieceModel:
    """A unigram model and how a text is prepared for it.

    `rules` say which characters become which. `dummy_prefix` puts a space before a text. `trims` takes off
    spaces at both ends, and all but one in a row.
    """

    pieces: tuple[Piece, ...]
    byte_fallback: bool
    rules: Charsmap
    dummy_prefix: bool
    trims: bool

    @classmethod
    def load(cls, path: Path) -> PieceModel:
        """Read a file such as source.spm.

        Raises:
            LoadError: it is missing, broken, or a model of another kind.
        """
        message = _read(path)
        try:
            return _model(message)
        except FormatError as error:
            raise LoadError(f"{path} is no SentencePiece model ({error}); copy it again.") from error
        except _Unsupported as error:
            raise LoadError(f"{path} {error}, which is not supported.") from error

    def of_kind(self, *kinds: PieceKind) -> Iterator[Piece]:
        return (piece for piece in self.pieces if piece.kind in kinds)


class _Unsupported(ValueError):
    """What is asked for is not done here."""


def _read(path: Path) -> bytes:
    refuse_special_file(path)
    if not path.exists():
        raise LoadError(f"{path.parent} has no {path.name}; give a whole Hugging Face checkpoint.")
    if path.stat().st_size > _MAX_BYTES:
        raise LoadError(
            f"{path} is larger than {_MAX_BYTES >> 20} MiB, which cannot be right; copy it again."
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise LoadError(f"{path} is not readable ({error}); copy it again.") from error


def _model(message: bytes) -> PieceModel:
    values = dict(read_fields(message))
    trainer, normalizer = (_message(values, field) for field in (_TRAINER, _NORMALIZER))
    if _number(trainer, _MODEL_TYPE, _UNIGRAM) != _UNIGRAM:
        raise _Unsupported("is no unigram model")
    if not _number(normalizer, _ESCAPES, 1):
        raise _Unsupported("leaves spaces unmarked")
    if _number(trainer, _SPACE_AS_SUFFIX, 0):
        raise _Unsupported("has the space behind a word")
    if _message(values, _DENORMALIZER).get(_CHARSMAP):
        raise _Unsupported("rewrites the texts that it decodes")
    return PieceModel(
        pieces=_pieces(message),
        byte_fallback=bool(_number(trainer, _BYTE_FALLBACK, 0)),
        rules=Charsmap(_bytes(normalizer, _CHARSMAP)),
        dummy_prefix=bool(_number(normalizer, _DUMMY_PREFIX, 1)),
        trims=bool(_number(normalizer, _TRIMS, 1)),
    )


def _pieces(message: bytes) -> tuple[Piece, ...]:
    pieces = [_piece(value) for number, value in read_fields(message) if number == _PIECES]
    if not any(piece.kind == PieceKind.NORMAL for piece in pieces):
        raise FormatError("it has no pieces")
    if len({piece.text for piece in pieces}) < len(pieces):
        raise FormatError("it has a piece twice")
    return tuple(pieces)


def _piece(message: int | bytes) -> Piece:
    values = _values(message)
    text = _bytes(values, _TEXT).decode(errors="replace")
    kind = _number(values, _KIND, PieceKind.NORMAL)
    score = _float(values.get(_SCORE, bytes(4)))
    if not text or kind not in set(PieceKind) or not math.isfinite(score):
        raise FormatError(f"its piece {text[:32]!r} is not usable")
    return Piece(text, score, PieceKind(kind))


def _message(values: _Values, field: int) -> _Values:
    return _values(values.get(field, b""))


def _values(message: int | bytes) -> _Values:
    if isinstance(message, int):
        raise FormatError("a number stands where a message belongs")
    return dict(read_fields(message))


def _number(values: _Values, field: int, default: int) -> int:
    value = values.get(field, default)
    if not isinstance(value, int):
        raise FormatError(f"the field {field} is no number")
    return value


def _bytes(values: _Values, field: int) -> bytes:
    value = values.get(field, b"")
    if isinstance(value, int):
        raise FormatError(f"the field {field} is a number")
    return value


def _float(value: int | bytes) -> float:
    if isinstance(value, int) or len(value) != 4:
        raise FormatError("a score is no number")
    number: float = struct.unpack("<f", value)[0]
    return number
