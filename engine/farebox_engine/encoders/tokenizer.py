"""From texts to an encoder's inputs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from farebox_engine.checkpoint.json_file import read_json, read_optional_json
from farebox_engine.encoders.models.config import EncoderConfig
from farebox_engine.encoders.sentence import SentenceSettings
from farebox_engine.errors import LoadError, RequestError
from farebox_engine.tokenization.special_tokens import refuse_other_vocabulary

Text = str | Sequence[int]
"""A text, or token ids that are taken as they are."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One input: token ids and their part of a pair, both int64 [length].

    ``offsets`` are the characters [start, end) of the text behind each token, None for a special one.
    """

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    offsets: Sequence[tuple[int, int] | None] = ()

    def __len__(self) -> int:
        return len(self.ids)


class EncoderTokenizer:
    """A checkpoint's tokenizer. Special tokens come from its post-processing alone: a text that spells
    one has it encoded as text. Safe to use from several threads.

    ``max_length`` is the most tokens an input may have, the special ones counted.
    """

    def __init__(
        self, description: Mapping[str, object], config: EncoderConfig, *, max_length: int, lower_case: bool
    ) -> None:
        """``description`` is the content of tokenizer.json; raises `LoadError`."""
        self.max_length = max_length
        self._lower_case = lower_case
        self._vocab_size = config.vocab_size
        self._has_types = config.token_types > 1
        self._whole = _build(description)
        self._cut = _build(description)
        try:
            self._cut.enable_truncation(max_length, strategy="longest_first")
        # Fewer tokens than the tokenizer itself puts around a text.
        except Exception as error:
            raise LoadError(
                f"tokenizer.json does not fit inputs of {max_length} tokens ({error})."
            ) from error

    @classmethod
    def load(
        cls, folder: Path, config: EncoderConfig, settings: SentenceSettings, max_length: int | None = None
    ) -> EncoderTokenizer:
        """Read tokenizer.json and tokenizer_config.json. The shortest of all limits applies.

        Raises:
            LoadError: a file is missing or broken, or has tokens the model does not know.
        """
        description = read_json(folder / "tokenizer.json")
        own = read_optional_json(folder / "tokenizer_config.json")
        limits = [config.max_length, settings.max_length, own.get("model_max_length"), max_length]
        # An unlimited tokenizer says 10^30.
        shortest = int(min(limit for limit in limits if isinstance(limit, int | float) and limit >= 1))
        try:
            tokenizer = cls(description, config, max_length=shortest, lower_case=settings.lower_case)
        except LoadError as error:
            raise LoadError(f"{folder}: {error}") from error
        names = own.get("model_input_names")
        if isinstance(names, list) and "token_type_ids" not in names:
            tokenizer._has_types = False
        refuse_other_vocabulary(folder, description, tokenizer._whole, config.vocab_size)
        return tokenizer

    def encode(
        self, texts: Sequence[Text], *, prompt: str = "", truncate: bool = False, offsets: bool = False
    ) -> list[Tokens]:
        """Tokenise ``texts``, each with ``prompt`` before it; slow, so not for an event loop.

        Raises:
            RequestError: an input is empty, holds unknown token ids, or is longer than ``max_length``
                and ``truncate`` does not allow cutting it.
        """
        if not texts:
            raise RequestError("There is no input; give at least one.", "input")
        written = [self._cased(prompt + text) for text in texts if isinstance(text, str)]
        tokenizer = self._cut if truncate else self._whole
        encodings = iter(_encodings(tokenizer, written, offsets=offsets))
        found = []
        for number, text in enumerate(texts):
            if isinstance(text, str):
                tokens = self._tokens(next(encodings), offsets)
            else:
                tokens = self._given(text, number, truncate)
            self._check(tokens, number)
            found.append(tokens)
        return found

    def encode_pairs(self, first: str, seconds: Sequence[str], *, truncate: bool = False) -> list[Tokens]:
        """Tokenise pairs of ``first`` with each of ``seconds``, as cross-encoders read them; slow, too.

        Each text is tokenised once, however many pairs it is in, and no pair that is too long is made.

        Raises:
            RequestError: as `encode`.
        """
        if not seconds:
            raise RequestError("There is no input; give at least one.", "input")
        texts = [self._cased(text) for text in (first, *seconds)]
        one, *others = _encodings(self._whole, texts, special=False)
        if not truncate:
            around = self._whole.num_special_tokens_to_add(is_pair=True)
            for number, other in enumerate(others):
                self._check_length(len(one) + len(other) + around, number)
        join = (self._cut if truncate else self._whole).post_process
        found = []
        for number, other in enumerate(others):
            pair = join(one, other)
            tokens = self._tokens(pair, offsets=False)
            self._check(tokens, number)
            if self._has_types and self._whole.post_processor is None:
                # Nothing but a post-processor tells the parts of a pair that is put together here.
                tokens = Tokens(tokens.ids, np.array(pair.sequence_ids, dtype=np.int64))
            found.append(tokens)
        return found

    def _check(self, tokens: Tokens, number: int) -> None:
        if (tokens.ids >= self._vocab_size).any():
            raise RequestError(
                f"Input {number} has a token that this model does not know; leave it out.", "input"
            )
        self._check_length(len(tokens), number)

    def _check_length(self, length: int, number: int) -> None:
        if not 1 <= length <= self.max_length:
            raise RequestError(
                f"Input {number} has {length} tokens; this model takes from 1 to {self.max_length}. "
                "Shorten it, or ask for truncation.",
                "input",
            )

    def _cased(self, text: str) -> str:
        return text.lower() if self._lower_case else text

    def _tokens(self, encoding: Encoding, offsets: bool) -> Tokens:
        ids = np.array(encoding.ids, dtype=np.int64)
        types = np.array(encoding.type_ids, dtype=np.int64) if self._has_types else np.zeros_like(ids)
        if not offsets:
            return Tokens(ids, types)
        places = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
        return Tokens(ids, types, [None if special else place for place, special in places])

    def _given(self, ids: Sequence[int], number: int, truncate: bool) -> Tokens:
        if any(not 0 <= token < self._vocab_size for token in ids):
            raise RequestError(f"Input {number} has a token id outside 0 to {self._vocab_size - 1}.", "input")
        kept = np.array(ids[: self.max_length] if truncate else ids, dtype=np.int64)
        return Tokens(kept, np.zeros_like(kept))


def _encodings(
    tokenizer: Tokenizer, written: list[str], *, offsets: bool = False, special: bool = True
) -> list[Encoding]:
    encode = tokenizer.encode_batch if offsets else tokenizer.encode_batch_fast
    try:
        return encode(written, add_special_tokens=special)
    # How the tokenizers library says that a string has half of a surrogate pair.
    except TypeError as error:
        raise RequestError("An input is no valid Unicode text.", "input") from error


def _build(description: Mapping[str, object]) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(json.dumps(_without_spelt_tokens(description)))
    # The tokenizers library raises plain Exception for a file it does not understand.
    except Exception as error:
        raise LoadError(f"tokenizer.json is not usable ({error}); export the tokenizer again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # Special tokens in a text are left to the model behind them.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _without_spelt_tokens(description: Mapping[str, object]) -> Mapping[str, object]:
    """Unigram models find special tokens in ordinary text: give those there a name nobody can guess."""
    model, added = description.get("model"), description.get("added_tokens")
    if not isinstance(model, dict) or model.get("type") != "Unigram" or not isinstance(added, list):
        return description
    secret = secrets.token_hex(16)
    renamed = {
        entry["content"]: secret + entry["content"]
        for entry in added
        if isinstance(entry, dict) and entry.get("special") and isinstance(entry.get("content"), str)
    }
    vocabulary = [[renamed.get(piece, piece), score] for piece, score in model["vocab"]]
    tokens = [
        {**entry, "content": renamed.get(entry.get("content"), entry.get("content"))} for entry in added
    ]
    return {**description, "model": {**model, "vocab": vocabulary}, "added_tokens": tokens}
