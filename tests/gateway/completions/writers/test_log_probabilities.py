"""Log-probabilities of a whole answer are written token by token, and read as if written at once."""

import msgspec

from farebox.gateway.completions.responses import (
    ChatCompletion,
    Completion,
    CompletionUsage,
    PromptTokensDetails,
)
from farebox.gateway.completions.writers.chat import ChatWriter
from farebox.gateway.completions.writers.choices import ChoiceBuffer
from farebox.gateway.completions.writers.completion import CompletionWriter
from farebox.gateway.completions.writers.logprobs import chat_logprobs, legacy_logprobs
from farebox.gateway.completions.writers.writer import AnswerHead
from farebox.gateway.models.generation import Chunk, FinishReason, TokenLogprob
from farebox_engine.outputs import TokenAlternative

HEAD = AnswerHead("id-1", 1_800_000_000, "m", "fp_1", include_usage=False, with_logprobs=True)
USAGE = CompletionUsage(1, 3, 4, PromptTokensDetails(0))


def buffer(count: int) -> ChoiceBuffer:
    found = ChoiceBuffer()
    for number in range(count):
        text = ["a", '"', "☂", "[]"][number % 4]
        other = TokenAlternative(number, text, text.encode(), -2.5)
        token = TokenLogprob(number, text, text.encode(), -0.5 * number, (other,) * 2, characters=len(text))
        found.add(Chunk(text, (number,), logprobs=(token,)))
    found.add(Chunk("", (), finish_reason=FinishReason.LENGTH))
    return found


def test_a_chat() -> None:
    choices = [buffer(5), buffer(0)]
    written = msgspec.json.decode(ChatWriter(HEAD).document(choices, USAGE), type=ChatCompletion)
    assert [choice.logprobs for choice in written.choices] == [
        chat_logprobs(each.logprobs) for each in choices
    ]
    assert written.choices[0].message.content == 'a"☂[]a'


def test_a_text_completion() -> None:
    choices = [buffer(5), buffer(1)]
    written = msgspec.json.decode(CompletionWriter(HEAD).document(choices, USAGE), type=Completion)
    assert [choice.logprobs for choice in written.choices] == [
        legacy_logprobs(each.logprobs, 0) for each in choices
    ]
    assert [choice.index for choice in written.choices] == [0, 1]


def test_what_is_large_is_known_to_be() -> None:
    assert buffer(5).pieces == 6 + 5 * 3
    assert buffer(0).pieces == 1
