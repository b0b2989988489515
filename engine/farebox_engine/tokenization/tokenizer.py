"""Text to tokens, with a wall between what a template writes and what a user writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from farebox_engine.checkpoint.json_file import read_json, read_optional_json
from farebox_engine.errors import LoadError, TemplateError
from farebox_engine.tokenization.answer_format import OPEN_REASONING, AnswerFormat
from farebox_engine.tokenization.control_tokens import control_tokens, finder, with_all_special
from farebox_engine.tokenization.special_tokens import (
    SpecialTokens,
    build,
    refuse_other_vocabulary,
    without_rows,
)
from farebox_engine.tokenization.templates.chat_template import ChatTemplate, Prompt
from farebox_engine.tokenization.templates.files import DEFAULT, WITH_TOOLS, read_templates, template_for
from farebox_engine.tokenization.vocabulary import Vocabulary

# Characters to look through in one call, which keeps the interpreter to itself.
_PIECE = 65_536
# Characters from which `encode` keeps the interpreter longer than the way around it takes.
_LONG = 2_000
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
        template: str | Mapping[str, str] | None,
        special: Mapping[str, str],
    ) -> None:
        """`description` is the content of tokenizer.json; `special` maps names such as "bos_token" to tokens.

        `template` is the chat template, or several by name. `marks` are the ids of the tokens that tell
        reasoning and calls from content, `end_token` the one that the tokenizer calls `eos_token`.

        Raises:
            LoadError: the tokenizer or the template cannot be used.
        """
        templates = {DEFAULT: template} if isinstance(template, str) else dict(template or {})
        controls = control_tokens(description, templates.values())
        self._tokenizer = build(description)
        self._plain = build(with_all_special(description, controls))
        # Added tokens marked special are now left alone by the tokenizer when it meets them in a text.
        self._plain.encode_special_tokens = True
        self._controls = controls
        self._control_ids = frozenset(controls.values())
        self._pattern = finder(controls)
        self._templates = {
            name: ChatTemplate(templates[name], special)
            for name in (DEFAULT, WITH_TOOLS)
            if name in templates
        }
        self.answer_format = AnswerFormat.of(
            template_for(templates, with_tools=True), template_for(templates, with_tools=False)
        )
        self.vocabulary = Vocabulary(self._tokenizer, description)
        self.marks = frozenset(
            number for content, number in controls.items() if content in self.answer_format.marks
        )
        self.end_token = self._tokenizer.token_to_id(special.get("eos_token", ""))

    @classmethod
    def load(cls, folder: Path, vocab_size: int) -> ChatTokenizer:
        """Read a checkpoint's tokenizer, its special tokens and its chat templates.

        Added tokens may go past the model's `vocab_size` rows, as Gemma 3's do: the model never writes
        them, and cannot read them.

        Raises:
            LoadError: a file is missing or broken, or has tokens the model does not know.
        """
        settings = read_optional_json(folder / "tokenizer_config.json")
        description = read_json(folder / "tokenizer.json")
        try:
            tokens = SpecialTokens(folder, description, settings)
            templates = read_templates(folder, settings)
            description = without_rows(tokens.add_to(description), vocab_size)
            tokenizer = cls(description, templates, tokens.names)
        except LoadError as error:
            raise LoadError(f"{folder}: {error}") from error
        refuse_other_vocabulary(folder, description, tokenizer._tokenizer, vocab_size)
        return tokenizer

    @property
    def has_chat_template(self) -> bool:
        return bool(self._templates)

    def encode(self, text: str) -> list[int]:
        """The tokens of a user's text, with what the tokenizer itself puts around it, such as a BOS token."""
        encoding = encode_text(self._plain, text, special=True)
        written = [
            token
            for token, own in zip(encoding.ids, encoding.special_tokens_mask, strict=True)
            if not own and token in self._control_ids
        ]
        return self._encode_broken(text) if written else encoding.ids

    def opens_reasoning(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt ends with the mark after which the model reasons."""
        tail = b"".join(map(self.vocabulary.bytes_of, prompt[-16:]))
        return self.answer_format.reasons and tail.rstrip().endswith(OPEN_REASONING.encode())

    def encode_plainly(self, text: str) -> list[int]:
        """The tokens of a text and nothing around them; no control tokens."""
        return encode_text(self._plain, text).ids

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
        variables: Mapping[str, object] | None = None,
    ) -> list[int]:
        """The prompt tokens for `messages` and `tools`, by the chat template, which may read `variables`.

        While the template runs, every character of a user's has a stand-in; so a control token without
        one in what it writes is its own. The template reads the messages as if there were none.

        Raises:
            TemplateError: there is no template, or it failed or refused the messages.
        """
        template = template_for(self._templates, with_tools=tools is not None)
        if template is None:
            raise TemplateError(_no_template(self._templates))
        _check_roles(messages)
        prompt = template.render(
            messages, add_generation_prompt=add_generation_prompt, tools=tools, variables=variables
        )
        own = self._controls_of(prompt.marked)
        if own == self._controls_of(prompt.text):
            ids: list[int] = encode_text(self._tokenizer, prompt.text).ids
            if [token for token in ids if token in self._control_ids] == [self._controls[t] for _, t in own]:
                return ids
        return list(self._encode_around(prompt))

    def _controls_of(self, text: str) -> list[tuple[int, str]]:
        """Where control tokens begin, and which."""
        return [(match.start(1), match.group(1)) for match in self._controls_in(text)]

    def _controls_in(self, text: str) -> Iterator[re.Match[str]]:
        """Where a control token begins, looked for piece by piece; overlaps included."""
        longest = max(map(len, self._controls), default=0)
        for start in range(0, len(text), _PIECE):
            end = start + _PIECE
            for match in self._pattern.finditer(text, start, end + longest):
                if match.start() < end:
                    yield match

    def _encode_around(self, prompt: Prompt) -> Iterator[int]:
        """Encode a prompt, taking as control tokens only those of the template's own characters."""
        done = 0
        for start, token in self._controls_of(prompt.marked):
            if start < done:
                continue
            yield from self._encode_plain(prompt.text[done:start])
            yield self._controls[token]
            done = start + len(token)
        yield from self._encode_plain(prompt.text[done:])

    def _encode_plain(self, text: str) -> list[int]:
        if not text:
            return []
        ids: list[int] = encode_text(self._plain, text).ids
        if any(token in self._control_ids for token in ids):
            return self._encode_broken(text)
        return ids

    def _encode_broken(self, text: str) -> list[int]:
        """For models (Unigram) whose ordinary vocabulary holds a control token: break its spelling up."""
        ids: list[int] = []
        done = 0
        for match in self._controls_in(text):
            ids += encode_text(self._plain, text[done : match.start(1) + 1]).ids
            done = match.start(1) + 1
        ids += encode_text(self._plain, text[done:]).ids
        return [token for token in ids if token not in self._control_ids]


def _ends_with(tokens: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether `tokens` are more than `others` and end with them."""
    return len(others) < len(tokens) and tokens[-len(others) :] == others


def _check_roles(messages: Sequence[Mapping[str, object]]) -> None:
    """Templates compare roles and some write them: they are passed as they are."""
    for message in messages:
        role = message.get("role")
        if not isinstance(role, str) or not _ROLE.fullmatch(role):
            raise TemplateError("Each message needs a role of lower-case letters.")


def _no_template(named: Mapping[str, object]) -> str:
    if not named:
        return "This model has no chat template; use text completions."
    return f"This model has chat templates for {', '.join(sorted(named))} only."


def encode_text(tokenizer: Tokenizer, text: str, *, special: bool = False, names: bool = False) -> Encoding:
    """Tokenise without keeping other threads from the interpreter, as `Tokenizer.encode` does.

    Only with `names` are there texts of tokens in the encoding of a long text.
    """
    if len(text) < _LONG:
        return tokenizer.encode(text, add_special_tokens=special)
    encode = tokenizer.encode_batch if names else tokenizer.encode_batch_fast
    return encode([text], add_special_tokens=special)[0]
