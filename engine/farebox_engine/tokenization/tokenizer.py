"""Text to tokens, with a wall between what a template writes and what a user writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from tokenizers import Tokenizer

from farebox_engine.checkpoint.json_file import read_json, read_optional_json
from farebox_engine.checkpoint.symlinks import refuse_special_file
from farebox_engine.errors import LoadError, TemplateError
from farebox_engine.tokenization.answer_format import OPEN_REASONING, AnswerFormat
from farebox_engine.tokenization.chat_template import ChatTemplate
from farebox_engine.tokenization.vocabulary import Vocabulary

_PRIVATE_USE = range(0x100000, 0x10FFFE)
_LARGEST_TEMPLATE = 1 << 20
_ROLE = re.compile(r"[a-z_]{1,32}")


class ChatTokenizer:
    """A checkpoint's tokenizer and chat template.

    Control tokens are the special tokens and those markers that the chat template writes.
    They come from the template and from the tokenizer's own post-processing alone: text
    of a user that spells one is encoded as text. Safe to use from several threads.
    """

    def __init__(
        self,
        description: Mapping[str, object],
        template: str | None,
        special: Mapping[str, str],
        vocab_size: int | None = None,
    ) -> None:
        """`description` is the content of tokenizer.json; `special` maps names such as "bos_token" to tokens.

        Added tokens that a model of `vocab_size` has no row for are control tokens: no text becomes one.

        Raises:
            LoadError: the tokenizer or the template cannot be used.
        """
        controls = _control_tokens(description, template or "", vocab_size)
        self._tokenizer = _build(description)
        self._plain = _build(_with_all_special(description, controls))
        # Added tokens marked special are now left alone by the tokenizer when it meets them in a text.
        self._plain.encode_special_tokens = True
        self._controls = controls
        self._pattern = _alternation(controls)
        self._template = None if template is None else ChatTemplate(template, special)
        self.answer_format = AnswerFormat.of(template)
        self.vocabulary = Vocabulary(self._tokenizer, description)

    @classmethod
    def load(cls, folder: Path, vocab_size: int) -> ChatTokenizer:
        """Read tokenizer.json, tokenizer_config.json and chat_template.jinja from a checkpoint.

        Raises:
            LoadError: a file is missing or broken, or has tokens the model does not know.
        """
        settings = read_optional_json(folder / "tokenizer_config.json")
        special = {
            name: text
            for name in ("bos_token", "eos_token", "unk_token", "pad_token")
            if (text := _token_text(settings.get(name)))
        }
        try:
            description = read_json(folder / "tokenizer.json")
            tokenizer = cls(description, _template_source(folder, settings), special, vocab_size)
        except LoadError as error:
            raise LoadError(f"{folder}: {error}") from error
        refuse_other_vocabulary(folder, description, tokenizer._tokenizer, vocab_size)
        return tokenizer

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def encode(self, text: str) -> list[int]:
        """The tokens of a user's text, with what the tokenizer itself puts around it, such as a BOS token."""
        encoding = self._plain.encode(text)
        written = [
            token
            for token, own in zip(encoding.ids, encoding.special_tokens_mask, strict=True)
            if not own and token in self._controls.values()
        ]
        return self._encode_broken(text) if written else encoding.ids

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt ends with the mark after which the model reasons."""
        tail = b"".join(map(self.vocabulary.bytes_of, prompt[-16:]))
        return self.answer_format.reasons and tail.rstrip().endswith(OPEN_REASONING.encode())

    def encode_plainly(self, text: str) -> list[int]:
        """The tokens of a text and nothing around them; no control tokens."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """The tokens by which a model would write `word`: at a text's start or later, after a space or not.

        Empty if it is nothing but white space. One that ends with another is left out.
        """
        word = word.lstrip()
        if not word:
            return []
        # Some tokenizers put a space before a text; a line break keeps the word from being its start.
        line_break = self.encode_plainly("\n")
        found = []
        for text in (word, f" {word}"):
            found.append(tuple(self.encode_plainly(text)))
            later = self.encode_plainly(f"\n{text}")
            if later[: len(line_break)] == line_break:
                found.append(tuple(later[len(line_break) :]))
        distinct = dict.fromkeys(filter(None, found))
        return [one for one in distinct if not any(_ends_with(one, other) for other in distinct)]

    def render_chat(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[object] | None = None,
    ) -> list[int]:
        """The prompt tokens for `messages` and `tools`, by the chat template.

        While the template runs, the first character of every control token is swapped, in
        the messages, for one that occurs nowhere else; so a control token in what it
        writes is its own. The template otherwise sees texts of the same length and shape.

        Raises:
            TemplateError: there is no template, or it failed or refused the messages.
        """
        if self._template is None:
            raise TemplateError("This model has no chat template; use text completions.")
        swap = self._swap([messages, tools])
        marked = self._template.render(
            [_translated(message, swap) for message in messages],
            add_generation_prompt=add_generation_prompt,
            tools=cast(Sequence[object] | None, _swapped(tools, str.maketrans(swap))),
        )
        text = marked.translate({ord(stand_in): original for original, stand_in in swap.items()})
        own = {match.start(1) for match in self._pattern.finditer(marked)}
        if own == {match.start(1) for match in self._pattern.finditer(text)}:
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
            if sum(token in self._controls.values() for token in ids) == len(own):
                return ids
        return list(self._encode_around(marked, text))

    def _encode_around(self, marked: str, text: str) -> Iterator[int]:
        """Encode `text`, taking as control tokens only those that stand unmarked in `marked`."""
        done = 0
        for match in self._pattern.finditer(marked):
            start, token = match.start(1), match.group(1)
            if start < done:
                continue
            yield from self._encode_plain(text[done:start])
            yield self._controls[token]
            done = start + len(token)
        yield from self._encode_plain(text[done:])

    def _encode_plain(self, text: str) -> list[int]:
        if not text:
            return []
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        if any(token in self._controls.values() for token in ids):
            return self._encode_broken(text)
        return ids

    def _encode_broken(self, text: str) -> list[int]:
        """For models (Unigram) whose ordinary vocabulary holds a control token: break its spelling up."""
        ids: list[int] = []
        done = 0
        for match in self._pattern.finditer(text):
            ids += self._plain.encode(text[done : match.start(1) + 1], add_special_tokens=False).ids
            done = match.start(1) + 1
        ids += self._plain.encode(text[done:], add_special_tokens=False).ids
        return [token for token in ids if token not in self._controls.values()]

    def _swap(self, messages: object) -> dict[str, str]:
        """First characters of control tokens -> private-use characters that occur nowhere in `messages`."""
        used = set(json.dumps(messages, ensure_ascii=False, default=str))
        firsts = sorted({token[0] for token in self._controls})
        unused = (chr(code) for code in _PRIVATE_USE if chr(code) not in used)
        return dict(zip(firsts, unused, strict=False))


def _ends_with(tokens: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether `tokens` are more than `others` and end with them."""
    return len(others) < len(tokens) and tokens[-len(others) :] == others


def _translated(value: object, swap: Mapping[str, str]) -> dict[str, object]:
    """A message with the characters swapped in every string but the role, which templates compare."""
    message = cast(Mapping[str, object], value)
    role = message.get("role")
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise TemplateError("Each message needs a role of lower-case letters.")
    table = str.maketrans(dict(swap))
    return {key: value if key == "role" else _swapped(value, table) for key, value in message.items()}


def _swapped(value: object, table: dict[int, str]) -> object:
    if isinstance(value, str):
        return value.translate(table)
    if isinstance(value, dict):
        return {_swapped(key, table): _swapped(item, table) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_swapped(item, table) for item in value]
    return value


def _build(description: Mapping[str, object]) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(json.dumps(description))
    # The tokenizers library raises plain Exception for a file it does not understand.
    except Exception as error:
        raise LoadError(f"tokenizer.json is not usable ({error}); export the tokenizer again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _added_tokens(description: Mapping[str, object]) -> list[dict[str, object]]:
    entries = description.get("added_tokens") or []
    usable = isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("content"), str)
        for entry in entries
    )
    if not usable:
        raise LoadError("tokenizer.json has malformed added_tokens; export the tokenizer again.")
    return cast(list[dict[str, object]], entries)


def refuse_other_vocabulary(
    folder: Path, description: Mapping[str, object], tokenizer: Tokenizer, vocab_size: int
) -> None:
    """Refuse a tokenizer whose own vocabulary is larger than the model's.

    Added tokens may lie past the model's last row, as Gemma 3's <image_soft_token> does: the model
    never writes them, and a prompt that has one is refused.

    Raises:
        LoadError: it is another model's.
    """
    added = {entry["id"] for entry in _added_tokens(description)}
    size = max((token for token in tokenizer.get_vocab().values() if token not in added), default=-1) + 1
    if size > vocab_size:
        raise LoadError(
            f"{folder}/tokenizer.json has {size} tokens, but the model knows only {vocab_size}; "
            "use the tokenizer that the model was trained with."
        )


def _control_tokens(
    description: Mapping[str, object], template: str, vocab_size: int | None
) -> dict[str, int]:
    """Special tokens, and added tokens that the chat template writes (<tool_call>) or that the model lacks.

    Other added tokens (runs of spaces, HTML tags) are ordinary vocabulary.
    """
    found: dict[str, int] = {}
    for entry in _added_tokens(description):
        content, token = cast(str, entry["content"]), cast(int, entry["id"])
        unknown = vocab_size is not None and token >= vocab_size
        if content.strip() and (entry.get("special") or unknown or content in template):
            found[content] = token
    return found


def _with_all_special(description: Mapping[str, object], controls: Mapping[str, int]) -> dict[str, object]:
    added = [{**entry, "special": entry["content"] in controls} for entry in _added_tokens(description)]
    return {**description, "added_tokens": added}


def _alternation(controls: Mapping[str, int]) -> re.Pattern[str]:
    """Matches every position where a control token begins, the longest first, overlaps included."""
    longest_first = sorted(controls, key=len, reverse=True)
    choices = "|".join(map(re.escape, longest_first)) or r"(?!)"
    return re.compile(f"(?=({choices}))")


def _template_source(folder: Path, settings: Mapping[str, object]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.exists():
        refuse_special_file(file)
        if file.stat().st_size > _LARGEST_TEMPLATE:
            raise LoadError(f"chat_template.jinja is larger than {_LARGEST_TEMPLATE >> 20} MiB; shorten it.")
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LoadError(f"chat_template.jinja is not readable as text ({error}); mend it.") from error
    template = settings.get("chat_template")
    if isinstance(template, list):
        # Several named templates: "default" is the one for plain chats.
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    if template is None or isinstance(template, str):
        return template
    raise LoadError("tokenizer_config.json has a chat_template that is no text; mend it there.")


def _token_text(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
