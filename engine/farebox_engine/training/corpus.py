"""Reading what a model is trained on: plain text, and conversations as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from farebox_engine.training.errors import TrainingError

END_OF_TEXT = "<|endoftext|>"
ROLES = ("system", "user", "assistant")

# A held-out passage must be long enough to be worth predicting and short enough that a single book,
# cut into passages, can give up two per cent.
_PASSAGE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of plain text; ``ends_document`` is true for the last one of its document."""

    text: str
    ends_document: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    messages: tuple[Message, ...]


Unit = Passage | Conversation


def read_texts(paths: Iterable[Path]) -> list[Unit]:
    """Read UTF-8 text files as passages; a line with only ``<|endoftext|>`` ends a document, as does a file.

    Raises:
        TrainingError: a file is missing, empty or not UTF-8.
    """
    units: list[Unit] = []
    for path in paths:
        documents = _read(path).split(f"\n{END_OF_TEXT}\n")
        units.extend(passage for document in documents for passage in _passages(document))
    return units


def read_chats(paths: Iterable[Path]) -> list[Unit]:
    """Read JSON lines ``{"messages": [{"role", "content"}, ...]}``, each with an assistant's turn.

    Raises:
        TrainingError: a file is missing, empty or not UTF-8, or a line is something else; it names
            file and line.
    """
    units: list[Unit] = []
    for path in paths:
        for number, line in enumerate(_read(path).splitlines(), start=1):
            if line.strip():
                units.append(_conversation(line, f"{path}, line {number}"))
    return units


def plain_texts(units: Sequence[Unit]) -> Iterator[str]:
    """Yield every piece of text, for training a tokenizer."""
    for unit in units:
        if isinstance(unit, Passage):
            yield unit.text
        else:
            yield from (message.content for message in unit.messages)


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path} is not UTF-8: byte {error.start} cannot be decoded.") from error
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}.") from error
    if not text.strip():
        raise TrainingError(f"{path} holds no text.")
    return text


def _passages(document: str) -> Iterator[Passage]:
    lines: list[str] = []
    length = 0
    for line in document.strip().splitlines(keepends=True):
        if length >= _PASSAGE_CHARACTERS:
            yield Passage("".join(lines), ends_document=False)
            lines, length = [], 0
        lines.append(line)
        length += len(line)
    if lines:
        yield Passage("".join(lines), ends_document=True)


def _conversation(line: str, where: str) -> Conversation:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise TrainingError(f"{where} is not JSON: {error}.") from error
    turns = record.get("messages") if isinstance(record, dict) else None
    if not isinstance(turns, list) or not turns:
        raise TrainingError(f'{where} is not an object with a list of "messages".')
    messages = tuple(_message(turn, where) for turn in turns)
    if not any(message.role == "assistant" for message in messages):
        raise TrainingError(f"{where} has no assistant message to learn from.")
    return Conversation(messages)


def _message(turn: object, where: str) -> Message:
    if not isinstance(turn, dict) or turn.get("role") not in ROLES:
        raise TrainingError(f"{where} has a message whose role is not one of {', '.join(ROLES)}.")
    content = turn.get("content")
    if not isinstance(content, str) or not content.strip():
        raise TrainingError(f"{where} has a {turn['role']} message without text.")
    return Message(turn["role"], content)
