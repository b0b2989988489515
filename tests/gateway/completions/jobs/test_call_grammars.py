"""What an answer with tools can be: held against what the parser would make of it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox.gateway.completions.jobs.grammars import grammar_spec
from farebox.gateway.completions.requests import ChatCompletionRequest
from farebox_engine.grammar.compiler import Grammar, GrammarCompiler
from farebox_engine.tokenization.answer_format import AnswerFormat, AnswerParser, ToolCall
from farebox_engine.tokenization.tokenizer import ChatTokenizer
from tests.engine.checkpoints import write_tokenizer

END = 0
SIZE = 400
HERMES, LLAMA, THINKER = AnswerFormat("hermes"), AnswerFormat("llama3"), AnswerFormat("llama3", reasons=True)
TOOL = {
    "name": "now",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"zone": {"enum": ["UTC", "local"]}},
        "required": ["zone"],
        "additionalProperties": False,
    },
}
GOOD, OTHER = '{"name": "now", "parameters": {"zone": "UTC"}}', '{"name":"now","parameters":{"zone":"local"}}'
WRONG, UNKNOWN = '{"name": "now", "parameters": {"zone": 1}}', '{"name": "then", "parameters": {}}'
# Where Python sees white space and where it sees none.
SPACES = [chr(code) for code in range(0x3001) if chr(code).isspace()]


@cache
def compiler_for(tokenizer: ChatTokenizer) -> GrammarCompiler:
    return GrammarCompiler(tokenizer.vocabulary, tokenizer.encode_plainly, SIZE, [END])


class Binding:
    """A grammar for one request, asked about whole answers."""

    def __init__(self, tokenizer: ChatTokenizer, style: AnswerFormat, *, opened: bool, **fields: Any) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
        body["tools"] = [{"type": "function", "function": TOOL}]
        request = msgspec.json.decode(json.dumps(body | fields), type=ChatCompletionRequest)
        spec = grammar_spec(request, style, opened=opened)
        assert spec is not None
        self._grammar: Grammar = compiler_for(tokenizer).compile(spec)
        self._encode = tokenizer.encode_plainly

    def allows(self, answer: str) -> bool:
        """Whether the model can write this and end."""
        matcher = self._grammar.start()
        for token in [*self._encode(answer), END]:
            if matcher.ended:
                return token == END
            mask = np.zeros(-(-SIZE // 32), dtype=np.int32)
            matcher.fill(mask)
            if not mask[token // 32] >> (token % 32) & 1:
                return False
            if token != END:
                matcher.accept(token)
        return True


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return ChatTokenizer.load(folder, SIZE)


@pytest.mark.parametrize(
    ("answer", "allowed"),
    [
        ("", True),
        ("At nine.\n{}", True),
        (f"See {UNKNOWN}", True),
        (GOOD, True),
        (f"\n{OTHER}", True),
        (f"{GOOD}; {OTHER}", True),
        (WRONG, False),
        (UNKNOWN, False),
        (f"{GOOD}; {WRONG}", False),
        (f"{GOOD}; and more", False),
        ('{"temperature": 3}', False),
        ("{", False),
        *((f"{space}{UNKNOWN}", False) for space in SPACES),
    ],
)
def test_what_begins_like_a_llama_call_is_nothing_but_right_ones(
    tokenizer: ChatTokenizer, answer: str, allowed: bool
) -> None:
    assert Binding(tokenizer, LLAMA, opened=False).allows(answer) == allowed


def test_one_call_at_most_where_asked_for(tokenizer: ChatTokenizer) -> None:
    binding = Binding(tokenizer, LLAMA, opened=False, parallel_tool_calls=False)
    assert binding.allows(GOOD)
    assert not binding.allows(f"{GOOD}; {OTHER}")


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("style", [THINKER, AnswerFormat("hermes", reasons=True)])
def test_a_call_comes_after_the_reasoning_that_the_prompt_began(
    tokenizer: ChatTokenizer, style: AnswerFormat, choice: str
) -> None:
    arguments = GOOD.replace("parameters", "arguments")
    call = GOOD if style.calls == "llama3" else f"<tool_call>\n{arguments}\n</tool_call>"
    answer = f"Hm, {{}}.</think>\n\n{call}"
    assert Binding(tokenizer, style, opened=True, tool_choice=choice).allows(answer)
    parser = AnswerParser(style, tools={"now": TOOL["parameters"]}, opened=True)
    assert ToolCall("now", '{"zone": "UTC"}') in [*parser.feed(answer), *parser.finish()]
    if choice == "required":
        assert not Binding(tokenizer, style, opened=True, tool_choice=choice).allows(call)


def test_json_comes_after_the_reasoning_that_the_prompt_began(tokenizer: ChatTokenizer) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "zone", "schema": TOOL["parameters"]}}
    for form in (schema, {"type": "json_object"}):
        binding = Binding(tokenizer, THINKER, opened=True, tools=[], response_format=form)
        assert binding.allows('Hm: {"zone": 1}?</think>\n\n{"zone": "UTC"}')
        assert not binding.allows("Hm.</think>UTC")
        assert not binding.allows('{"zone": "UTC"}')
    whole = Binding(tokenizer, THINKER, opened=True, tools=[], structured_outputs={"regex": "a</think>b"})
    assert whole.allows("a</think>b")


PIECES = [GOOD, OTHER, WRONG, UNKNOWN, "<think>", "</think>", "; ", " ", "\n", "\x1c", "{", "x"]
HERMES_PIECES = [
    f"<tool_call>\n{call.replace('parameters', 'arguments')}\n</tool_call>" for call in (GOOD, WRONG, UNKNOWN)
]


@settings(max_examples=150, deadline=None)
@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=7),
    style=st.sampled_from([LLAMA, THINKER]),
    opened=st.booleans(),
)
def test_no_llama_call_is_read_from_an_answer_but_a_right_one(
    tokenizer: ChatTokenizer, pieces: list[str], style: AnswerFormat, opened: bool
) -> None:
    assert_calls_are_right(tokenizer, style, opened and style.reasons, "".join(pieces))


@settings(max_examples=50, deadline=None)
@given(pieces=st.lists(st.sampled_from([*HERMES_PIECES, "<tool_call>", "\n", "x"]), max_size=5))
def test_no_hermes_call_is_read_from_an_answer_but_a_right_one(
    tokenizer: ChatTokenizer, pieces: list[str]
) -> None:
    assert_calls_are_right(tokenizer, HERMES, False, "".join(pieces))


def assert_calls_are_right(tokenizer: ChatTokenizer, style: AnswerFormat, opened: bool, answer: str) -> None:
    parser = AnswerParser(style, tools={"now": TOOL["parameters"]}, opened=opened)
    calls = [part for part in [*parser.feed(answer), *parser.finish()] if isinstance(part, ToolCall)]
    right = all(call.name == "now" and call.arguments in RIGHT for call in calls)
    if Binding(tokenizer, style, opened=opened).allows(answer):
        assert right
    elif not opened and "{" not in answer and "<" not in answer:
        raise AssertionError("what is no call is free")


RIGHT = {'{"zone": "UTC"}', '{"zone": "local"}'}
