"""Sources from texts: the tokenizer of a model that turns one text into another."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Seq

from farebox_engine.errors import RequestError, TemplateError
from farebox_engine.tokenization.answer_format import AnswerFormat
from farebox_engine.tokenization.sentencepiece.marian_tokenizer import MarianTokenizer
from farebox_engine.tokenization.tokenizer import ChatTokenizer


class SourceTokenizer:
    """A `PromptTokenizer` without bad words; chats are for the few checkpoints with a template for them."""

    # Nothing in a target is marked.
    answer_format = AnswerFormat()

    def __init__(self, tokenizer: ChatTokenizer | MarianTokenizer) -> None:
        self._tokenizer = tokenizer
        self._chats: ChatTokenizer | None = None
        if isinstance(tokenizer, ChatTokenizer) and tokenizer.has_chat_template:
            self._chats = tokenizer

    @property
    def has_chat_template(self) -> bool:
        return self._chats is not None

    def encode(self, text: str) -> list[int]:
        """The tokens of a source text; control tokens spelled in it are encoded as text."""
        return self._tokenizer.encode(text)

    def opens_reasoning(self, prompt: Seq[int]) -> bool:
        """No target holds reasoning."""
        del prompt
        return False

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """Raises `RequestError`: encoder-decoders take no bad words."""
        del word
        raise RequestError("This model has no bad_words; leave it out.", "bad_words")

    def render_chat(
        self,
        messages: Seq[Mapping[str, object]],
        *,
        add_generation_prompt: bool = True,
        tools: Seq[object] | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> list[int]:
        """The source for a chat; raises `TemplateError`."""
        if self._chats is None:
            raise TemplateError("This model turns one text into another and holds no chats; use completions.")
        return self._chats.render_chat(
            messages, add_generation_prompt=add_generation_prompt, tools=tools, variables=variables
        )
