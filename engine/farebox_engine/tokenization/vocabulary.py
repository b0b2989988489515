"""What each token stands for, in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from tokenizers import Tokenizer

from farebox_engine.errors import LoadError

_SPACE_MARK = "\u2581"  # ▁, SentencePiece's visible space


class Vocabulary:
    """Token ids and the bytes they add to a text, for byte-level and byte-fallback tokenizers.

    Bytes rather than text, because a character may be spread over several tokens.
    """

    def __init__(
        self, tokenizer: Tokenizer, description: Mapping[str, object], *, trims: bool = False
    ) -> None:
        """`description` is the content of tokenizer.json. `trims`: no text begins or ends with white space.

        Raises:
            LoadError: the tokenizer's decoder does neither byte-level nor byte-fallback decoding.
        """
        self._tokenizer = tokenizer
        decoders = _flatten(description.get("decoder"))
        kinds = {str(decoder.get("type")) for decoder in decoders}
        known = {"ByteLevel", "ByteFallback", "Metaspace", "Replace", "Fuse", "Strip"}
        if not kinds & {"ByteLevel", "ByteFallback", "Metaspace"} or not kinds <= known:
            raise LoadError(
                f"tokenizer.json decodes by {', '.join(sorted(kinds)) or 'nothing'}, which is not supported; "
                "use a byte-level or a SentencePiece tokenizer with byte fallback."
            )
        self.trims = trims
        self._byte_level = "ByteLevel" in kinds
        self.strips_first_space = any(_strips_start(decoder) for decoder in decoders)
        self._added: dict[int, str] = {}
        self._special: set[int] = set()
        for entry in cast(list[Mapping[str, object]], description.get("added_tokens") or []):
            token = cast(int, entry["id"])
            self._added[token] = str(entry["content"])
            if entry.get("special"):
                self._special.add(token)
        self._bytes: dict[int, bytes] = {}

    def is_special(self, token: int) -> bool:
        """Whether the token marks structure and has no text of its own."""
        return token in self._special

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token, those of its name for a special one; empty for an unknown id."""
        found = self._bytes.get(token)
        if found is None:
            found = self._bytes[token] = self._decode(token)
        return found

    def _decode(self, token: int) -> bytes:
        if token in self._added:
            # Gemma's runs of spaces are added tokens, and written as SentencePiece writes them.
            name = self._added[token]
            plain = self._byte_level or self.is_special(token)
            return (name if plain else name.replace(_SPACE_MARK, " ")).encode()
        piece = self._tokenizer.id_to_token(token)
        if piece is None:
            return b""
        if self._byte_level:
            # Characters outside the table stand for themselves, as in the tokenizers library.
            return b"".join(bytes([_BYTE_OF[char]]) if char in _BYTE_OF else char.encode() for char in piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes.fromhex(piece[3:5])
        return piece.replace(_SPACE_MARK, " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in byte-level BPE (Radford et al. 2019)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}


_BYTE_OF = _byte_alphabet()


def _flatten(decoder: object) -> list[Mapping[str, object]]:
    if not isinstance(decoder, dict):
        return []
    if decoder.get("type") == "Sequence":
        return [inner for part in decoder.get("decoders", []) for inner in _flatten(part)]
    return [decoder]


def _strips_start(decoder: Mapping[str, object]) -> bool:
    if decoder["type"] == "Strip":
        return decoder.get("content") == " " and bool(decoder.get("start"))
    return decoder["type"] == "Metaspace" and decoder.get("prepend_scheme", "always") != "never"
