"""Events of a stream: the short way for plain text writes what the long way writes."""

from dataclasses import replace

import msgspec
import pytest

from farebox.gateway.completions.responses import (
    ChatCompletionChunk,
    ChoiceDelta,
    ChunkChoice,
    Completion,
    CompletionChoice,
)
from farebox.gateway.completions.writers.chat import ChatWriter
from farebox.gateway.completions.writers.completion import CompletionWriter
from farebox.gateway.completions.writers.writer import AnswerHead
from farebox.gateway.models.generation import Chunk, FinishReason, TokenLogprob

MODEL = 'a model, "content":"" and "text":"" in its name'
TEXTS = ["plain", ' "content":"" ', ' "text":"" ', "\n\x00\\", "☂ 漢", "data: [DONE]\n\n"]


def head(include_usage: bool) -> AnswerHead:
    return AnswerHead("id-1", 1_800_000_000, MODEL, "fp_1", include_usage, with_logprobs=False)


@pytest.mark.parametrize("include_usage", [False, True])
def test_every_event_of_a_chat_is_the_chunk_that_clients_read(include_usage: bool) -> None:
    writer = ChatWriter(head(include_usage))
    usage = None if include_usage else msgspec.UNSET
    for index in (0, 1, 0, 1):
        writer.events(index, Chunk("opening", (1,)))
        for text in TEXTS:
            chunk = ChatCompletionChunk(
                "id-1",
                1_800_000_000,
                MODEL,
                [ChunkChoice(index, ChoiceDelta(content=text))],
                "fp_1",
                usage,
            )
            assert writer.events(index, Chunk(text, (1,))) == b"data: %b\n\n" % msgspec.json.encode(chunk)
        assert writer.events(index, Chunk("", (1,))) == b""


@pytest.mark.parametrize("include_usage", [False, True])
def test_every_event_of_a_completion_is_the_chunk_that_clients_read(include_usage: bool) -> None:
    writer = CompletionWriter(head(include_usage))
    usage = None if include_usage else msgspec.UNSET
    for index in (0, 1, 0, 1):
        for text in TEXTS:
            completion = Completion(
                "id-1", 1_800_000_000, MODEL, [CompletionChoice(index, text)], "fp_1", usage
            )
            expected = b"data: %b\n\n" % msgspec.json.encode(completion)
            assert writer.events(index, Chunk(text, (1,))) == expected
        assert writer.events(index, Chunk("", (1,))) == b""


def scored(text: str) -> Chunk:
    return Chunk(text, (1,), (TokenLogprob(1, text, text.encode(), -0.5, characters=len(text)),))


@pytest.mark.parametrize("kind", [ChatWriter, CompletionWriter])
def test_only_plain_text_of_a_begun_answer_goes_the_short_way(
    kind: type[ChatWriter | CompletionWriter],
) -> None:
    writer = kind(head(include_usage=True))
    plain = Chunk("more", (1,))
    assert writer.plain_event(0, plain) is None
    writer.events(0, Chunk("opening", (1,)))
    assert writer.plain_event(0, plain) == writer.events(0, plain) != b""
    assert writer.plain_event(1, plain) is None
    for other in (Chunk("end", (1,), finish_reason=FinishReason.STOP), scored("likely")):
        assert writer.plain_event(0, other) is None
        assert b"more" not in writer.events(0, other) != b""


@pytest.mark.parametrize("kind", [ChatWriter, CompletionWriter])
def test_an_answer_with_more_than_text_never_goes_the_short_way(
    kind: type[ChatWriter | CompletionWriter],
) -> None:
    asked = replace(head(include_usage=False), with_logprobs=True)
    writer = kind(asked)
    for _ in range(2):
        writer.events(0, scored("likely"))
        assert writer.plain_event(0, scored("likely")) is None


def test_the_last_event_says_why_an_answer_ended() -> None:
    writer = ChatWriter(head(include_usage=False))
    writer.events(0, Chunk("a", (1,)))
    events = writer.events(0, Chunk("b", (2,), finish_reason=FinishReason.LENGTH)).split(b"\n\n")
    text, end, _ = (event.removeprefix(b"data: ") for event in events)
    assert msgspec.json.decode(text)["choices"][0]["delta"] == {"content": "b"}
    assert msgspec.json.decode(end)["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": "length",
    }
