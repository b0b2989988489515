"""The tokens that a checkpoint adds to its vocabulary, and what its special ones are called.

Five files may say so: tokenizer.json, tokenizer_config.json (by `added_tokens_decoder`, and by the names
of special tokens), special_tokens_map.json and added_tokens.json. Which of them wins is as in
`transformers` 5: `added_tokens_decoder` makes the other two files count for nothing; without it,
special_tokens_map.json goes before tokenizer_config.json. What none of them names is what the tokenizer's
class says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from tokenizers import AddedToken, Tokenizer

from farebox_engine.checkpoint.json_file import read_optional_json
from farebox_engine.errors import LoadError
from farebox_engine.tokenization.tokenizer_classes import default_tokens

_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MORE, _OLD_MORE = "extra_special_tokens", "additional_special_tokens"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

Description = dict[str, object]
Token = AddedToken | str


class SpecialTokens:
    """What a folder's files say of added and special tokens, put together.

    `names` maps names such as "bos_token", also such as only this model has, to tokens.
    """

    def __init__(
        self, folder: Path, description: Mapping[str, object], settings: Mapping[str, object]
    ) -> None:
        """`description` is the content of tokenizer.json, `settings` that of tokenizer_config.json.

        Raises:
            LoadError: a file is broken, or says what is no token.
        """
        config = read_optional_json(folder / "config.json")
        said: dict[str, object] = {**default_tokens(config, settings, description), **settings}
        if _OLD_MORE in said and not said.get(_MORE):
            said[_MORE] = said.pop(_OLD_MORE)
        self._listed: dict[int, AddedToken] = {}
        if isinstance(settings.get("added_tokens_decoder"), dict):
            self._list(cast(dict[str, object], settings["added_tokens_decoder"]))
        else:
            said |= _mapped(folder, said)
            self._list_added(folder, said)
            self._listed |= {cast(int, entry["id"]): _added(entry) for entry in added_tokens(description)}
        padding = description.get("padding")
        if isinstance(padding, dict):
            said.setdefault("pad_token", padding.get("pad_token"))
        self._more = _tokens(_more(said))
        self._named = _named(said)

    @property
    def names(self) -> dict[str, str]:
        return {name: str(token) for name, token in self._named.items()}

    def add_to(self, description: Mapping[str, object]) -> Description:
        """tokenizer.json's content with the added tokens of all files, under the ids that the library gives.

        Raises:
            LoadError: the library refuses the file or a token.
        """
        known = {cast(str, entry["content"]): entry for entry in added_tokens(description)}
        listed = [self._special(token) for _, token in sorted(self._listed.items())]
        wanted = [token for token in listed if not _is(known.get(token.content), token)]
        spelt = {*known, *(token.content for token in listed)}
        for token in (*self._named.values(), *self._more):
            if str(token) not in spelt:
                spelt.add(str(token))
                wanted.append(self._special(token))
        if not wanted:
            return dict(description)
        tokenizer = build(description)
        tokenizer.add_tokens(wanted)
        decoder = tokenizer.get_added_tokens_decoder().items()
        return {**description, "added_tokens": [_entry(number, token) for number, token in decoder]}

    def _special(self, token: Token) -> AddedToken:
        if isinstance(token, str):
            return AddedToken(token, special=True)
        if token.content in map(str, self._named.values()):
            token.special = True
        return token

    def _list(self, entries: Mapping[str, object]) -> None:
        for number, entry in entries.items():
            if not number.isdigit():
                raise LoadError(f"tokenizer_config.json adds a token under the id {number!r}; mend it there.")
            self._listed[int(number)] = _added(entry)

    def _list_added(self, folder: Path, said: Mapping[str, object]) -> None:
        """added_tokens.json, which tells names and ids alone."""
        special = {str(token) for token in (*_named(said).values(), *_tokens(_more(said)))}
        for text, number in read_optional_json(folder / "added_tokens.json").items():
            if not isinstance(number, int):
                raise LoadError(f"added_tokens.json has no id for {text!r}; export the tokenizer again.")
            marked = text in special
            self._listed[number] = AddedToken(text, normalized=not marked, special=marked)


def build(description: Mapping[str, object]) -> Tokenizer:
    """The library's tokenizer of tokenizer.json's content, without truncation and padding."""
    try:
        tokenizer = Tokenizer.from_str(json.dumps(description))
    # The tokenizers library raises plain Exception for a file it does not understand.
    except Exception as error:
        raise LoadError(f"tokenizer.json is not usable ({error}); export the tokenizer again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def added_tokens(description: Mapping[str, object]) -> list[Description]:
    """tokenizer.json's entries of added tokens. Raises LoadError if one is malformed."""
    entries = description.get("added_tokens") or []
    usable = isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("content"), str)
        for entry in entries
    )
    if not usable:
        raise LoadError("tokenizer.json has malformed added_tokens; export the tokenizer again.")
    return cast(list[Description], entries)


def without_rows(description: Description, vocab_size: int) -> Description:
    """`description`, with the added tokens that a model of `vocab_size` rows lacks as special ones.

    So no text of a user becomes one.
    """
    entries = [
        entry | {"special": True} if cast(int, entry["id"]) >= vocab_size else entry
        for entry in added_tokens(description)
    ]
    return description | {"added_tokens": entries}


def refuse_other_vocabulary(
    folder: Path, description: Mapping[str, object], tokenizer: Tokenizer, vocab_size: int
) -> None:
    """Refuse a tokenizer whose own vocabulary is larger than the model's.

    Added tokens may lie past the model's last row, as Gemma 3's <image_soft_token> does: the model
    never writes them, and a prompt that has one is refused.

    Raises:
        LoadError: it is another model's.
    """
    added = {entry["id"] for entry in added_tokens(description)}
    size = max((token for token in tokenizer.get_vocab().values() if token not in added), default=-1) + 1
    if size > vocab_size:
        raise LoadError(
            f"{folder}/tokenizer.json has {size} tokens, but the model knows only {vocab_size}; "
            "use the tokenizer that the model was trained with."
        )


def _mapped(folder: Path, said: Mapping[str, object]) -> dict[str, object]:
    """special_tokens_map.json; what it has of further tokens comes after what is `said` of them."""
    found = read_optional_json(folder / "special_tokens_map.json")
    more, before = found.get(_MORE), said.get(_MORE)
    if isinstance(more, list) and isinstance(before, list):
        found[_MORE] = [*before, *(token for token in more if token not in before)]
    return found


def _named(said: Mapping[str, object]) -> dict[str, Token]:
    found = {name: said[name] for name in _NAMES if said.get(name) is not None}
    found |= {name: value for name, value in said.items() if name.endswith("_token") and _is_token(value)}
    own = said.get(_MORE)
    if isinstance(own, dict):
        found |= own
    return {name: _token(value) for name, value in found.items()}


def _more(said: Mapping[str, object]) -> object:
    return said[_MORE] if _MORE in said else said.get(_OLD_MORE)


def _tokens(values: object) -> list[Token]:
    return [_token(value) for value in values] if isinstance(values, list) else []


def _is_token(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("content"), str))


def _token(value: object) -> Token:
    return value if isinstance(value, str) else _added(value, special=True)


def _added(entry: object, *, special: bool | None = None) -> AddedToken:
    """A token that a file describes. Raises LoadError."""
    if not (isinstance(entry, dict) and _is_token(entry)):
        raise LoadError(f"The tokenizer's settings name {entry!r} as a token; mend them in the folder.")
    flags = {name: bool(entry[name]) for name in _FLAGS if name in entry}
    if special is not None:
        flags["special"] = special
    return AddedToken(str(entry["content"]), **flags)


def _is(entry: Mapping[str, object] | None, token: AddedToken) -> bool:
    return entry is not None and all(bool(entry.get(flag)) == getattr(token, flag) for flag in _FLAGS)


def _entry(number: int, token: AddedToken) -> Description:
    return {"id": number, "content": token.content} | {flag: getattr(token, flag) for flag in _FLAGS}
