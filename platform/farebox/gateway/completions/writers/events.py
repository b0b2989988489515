"""Server-sent events, and the short way to the most frequent one: nothing but text."""

from typing import TypeAlias

import msgspec

from farebox.gateway.completions.responses import ChatCompletionChunk, Completion
from farebox.gateway.models.generation import Chunk

DONE = b"data: [DONE]\n\n"

encode = msgspec.json.Encoder().encode

Event: TypeAlias = ChatCompletionChunk | Completion
# An event's bytes before and after a text; most events of a stream differ in nothing else.
EventTemplate: TypeAlias = tuple[bytes, bytes]


def event(content: Event) -> bytes:
    return b"data: " + encode(content) + b"\n\n"


def template_of(bare: Event, empty: bytes) -> EventTemplate:
    """Cut an event open at its `empty` text, which no string can hold: its quotes would be escaped."""
    before, found, after = event(bare).partition(empty)
    return before + found[:-2], after


def plain_text_event(template: EventTemplate | None, chunk: Chunk) -> bytes | None:
    """The event of a chunk of nothing but text, empty if it has none; None where it takes another way."""
    text, _, logprobs, finish_reason, _, _, _, prompt = chunk
    if template is None or finish_reason is not None or logprobs or prompt is not None:
        return None
    return b"".join((template[0], encode(text), template[1])) if text else b""
