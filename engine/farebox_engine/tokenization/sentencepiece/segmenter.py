"""Texts in pieces: the likeliest segmentation by a unigram model (Kudo 2018, arXiv 1804.10959)."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import Tokenizer, models

from farebox_engine.tokenization.sentencepiece.model_file import PieceKind, PieceModel
from farebox_engine.tokenization.sentencepiece.normalizer import Normalizer
from farebox_engine.tokenization.tokenizer import encode_text

# Stands for what is unknown. No normalised text holds it, as it would hold "▁".
_UNKNOWN = (" ", 0.0)


class Segmenter:
    """Cuts texts into pieces as one model does; safe to use from several threads."""

    def __init__(self, model: PieceModel) -> None:
        self._normalizer = Normalizer(
            model.rules,
            [symbol.text for symbol in model.of_kind(PieceKind.USER_DEFINED)],
            dummy_prefix=model.dummy_prefix,
            trims=model.trims,
        )
        # A user's symbol has a score of 0, with which it wins.
        found = model.of_kind(PieceKind.NORMAL, PieceKind.USER_DEFINED)
        scored = [(piece.text, piece.score) for piece in found]
        self._tokenizer = Tokenizer(models.Unigram([_UNKNOWN, *scored], unk_id=0))
        self._byte_fallback = model.byte_fallback

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text; what the model does not know is one as it stands, or one for each byte."""
        normalized = self._normalizer.normalize(text)
        if not normalized:
            return []
        encoding = encode_text(self._tokenizer, normalized, names=True)
        if self._byte_fallback:
            return list(_with_bytes(encoding.tokens, encoding.ids))
        return encoding.tokens


def _with_bytes(pieces: list[str], ids: list[int]) -> Iterator[str]:
    for piece, number in zip(pieces, ids, strict=True):
        if number:
            yield piece
        else:
            yield from (f"<0x{byte:02X}>" for byte in piece.encode())
