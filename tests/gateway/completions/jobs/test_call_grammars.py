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
from farebox.gateway.completions.jobs.tools import offered_tools
from farebox.gateway.completions.requests import ChatCompletionRequest
from farebox_engine.grammar.compiler import Grammar, GrammarCompiler
from farebox_engine.tokenization.answer_format import AnswerFormat
from farebox_engine.tokenization.answer_parser import AnswerParser, ToolCall
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
        spec = grammar_spec(request, style, offered_tools(request, style), opened=opened)
        assert spec is not None
        self._grammar: Grammar = compiler_for(tokenizer).compile(spec)
        self._encode = tokenizer.encode_plainly
        self._blank = [
            token
            for token in range(SIZE)
            if (text := tokenizer.vocabulary.bytes_of(token)) and text.isspace()
        ]

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

    def padding(self, begun: str) -> int:
        """How many tokens of white space the model can write after `begun`, up to 100."""
        matcher = self._grammar.start()
        for token in self._encode(begun):
            matcher.accept(token)
        for count in range(100):
            mask = np.zeros(-(-SIZE // 32), dtype=np.int32)
            if matcher.ended:
                return count
            matcher.fill(mask)
            blank = [token for token in self._blank if mask[token // 32] >> (token % 32) & 1]
            if not blank:
                return count
            matcher.accept(blank[0])
        return 100


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
        (f"{GOOD};", True),
        (f"{GOOD}; {OTHER}\n", True),
        (f"{GOOD};;", False),
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


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("tail", [";", "; ", "\n", ";\n\n"])
def test_a_token_may_hold_the_end_of_a_call_and_what_comes_after(
    tokenizer: ChatTokenizer, tail: str, strict: bool
) -> None:
    tools = [{"type": "function", "function": TOOL | {"strict": strict}}]
    binding = Binding(tokenizer, LLAMA, opened=False, tools=tools, parallel_tool_calls=False)
    assert binding.allows(f"{GOOD}{tail}")
    assert not binding.allows(f"{GOOD}{tail}{OTHER}")
    parser = AnswerParser(LLAMA, tools={"now": TOOL["parameters"]})
    assert [*parser.feed(GOOD + tail), *parser.finish()] == [ToolCall("now", '{"zone": "UTC"}')]


NAMED = {"type": "function", "function": {"name": "now"}}
BOUND: dict[str, tuple[AnswerFormat, bool, dict[str, Any], str]] = {
    "an object": (HERMES, False, {"tools": [], "response_format": {"type": "json_object"}}, '{"a":1}'),
    "reasoning, then an object": (
        THINKER,
        True,
        {"tools": [], "response_format": {"type": "json_object"}},
        'Hm.</think>{"a":1}',
    ),
    "a call of Hermes": (HERMES, False, {"tool_choice": NAMED}, ""),
    "a call of Llama": (LLAMA, False, {"tool_choice": NAMED}, '{"name":"now","parameters":{"zone":"UTC"}}'),
    "a strict tool's call": (LLAMA, False, {}, '{"name":"now","parameters":{"zone":"UTC"}}'),
    "reasoning, then a call": (
        THINKER,
        True,
        {"tool_choice": "required"},
        'Hm.</think>{"name":"now","parameters":{"zone":"UTC"}}',
    ),
}


@pytest.mark.parametrize("case", BOUND)
def test_an_answer_in_a_form_is_not_padded_with_white_space(tokenizer: ChatTokenizer, case: str) -> None:
    """A model that wants nothing else writes no more than this, wherever it stands outside of a string."""
    style, opened, fields, answer = BOUND[case]
    answer = answer or MARKED
    binding = Binding(tokenizer, style, opened=opened, **fields)
    start = answer.find("</think>") + len("</think>") if opened else 0
    free = "{" if case == "a strict tool's call" else ""
    for end in range(start + len(free), len(answer) + 1):
        if answer[:end].count('"') % 2 == 0:
            assert binding.padding(answer[:end]) <= 33


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


CALL = {"name": "now", "arguments": {"zone": "UTC"}}
MARKED = f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
ANSWER = {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]}
FORM = {
    "type": "json_schema",
    "json_schema": {"name": "a", "schema": ANSWER | {"additionalProperties": False}},
}
XML = "<tool_call>\n<function=now>\n<parameter=zone>\n</tool_call>\n</parameter>\n</function>\n</tool_call>"
CODER = AnswerFormat("qwen3_coder")


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("style", "call"), [(HERMES, MARKED), (LLAMA, GOOD), (CODER, XML)], ids=["hermes", "llama", "coder"]
)
def test_beside_tools_an_answer_is_calls_or_the_json(
    tokenizer: ChatTokenizer, style: AnswerFormat, call: str, strict: bool
) -> None:
    if strict and style is CODER:
        return
    tools = [{"type": "function", "function": TOOL | {"strict": strict}}]
    binding = Binding(tokenizer, style, opened=False, tools=tools, response_format=FORM)
    assert binding.allows(call)
    assert binding.allows('{"at": 9}')
    assert not binding.allows("At nine.")
    assert not binding.allows('{"at": "nine"}')
    assert not binding.allows(f'{call}{{"at": 9}}')
    wrong = call.replace("UTC", "UTD")
    assert binding.allows(wrong) == (not strict or style is CODER)


def test_a_call_that_must_come_leaves_no_room_for_json(tokenizer: ChatTokenizer) -> None:
    binding = Binding(tokenizer, HERMES, opened=False, tool_choice="required", response_format=FORM)
    assert binding.allows(MARKED)
    assert not binding.allows('{"at": 9}')


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("style", "first", "joint"),
    [
        (HERMES, MARKED, "\n"),
        (LLAMA, GOOD, "; "),
        (THINKER, GOOD, "; "),
        (CODER, XML, "\n"),
    ],
    ids=["hermes", "llama", "thinker", "coder"],
)
def test_without_parallel_calls_there_is_one_at_most(
    tokenizer: ChatTokenizer, style: AnswerFormat, first: str, joint: str, strict: bool
) -> None:
    if strict and style is CODER:
        return
    tools = [{"type": "function", "function": TOOL | {"strict": strict}}]
    binding = Binding(tokenizer, style, opened=False, tools=tools, parallel_tool_calls=False)
    assert binding.allows(first)
    assert not binding.allows(first + joint + first)
    assert binding.allows("At nine.")
    assert binding.allows('{"temperature": 3}') == (not strict or style is HERMES)
    if style.reasons:
        assert binding.allows(f"<think>Hm.</think>\n{first}")


def test_a_mark_inside_of_an_argument_closes_no_call(tokenizer: ChatTokenizer) -> None:
    tool = {"type": "function", "function": {"name": "say"}}
    call = {"name": "say", "arguments": {"text": "</tool_call>"}}
    binding = Binding(tokenizer, HERMES, opened=False, tools=[tool], parallel_tool_calls=False)
    assert binding.allows(f"Well.\n<tool_call>\n{json.dumps(call)}\n</tool_call>")


def test_a_template_that_takes_one_call_gets_one() -> None:
    refusing = (
        "{% for message in messages %}{% if tools %}"
        '{%- if not message.tool_calls|length == 1 %}{{- raise_exception("single!") }}{% endif %}'
        '{"name": "parameters"}'
    )
    assert AnswerFormat.of(refusing).one_call
    assert not AnswerFormat.of("{% if tools %}{% if message.tool_calls|length > 1 %}x").one_call


def test_a_model_of_one_call_makes_no_second(tokenizer: ChatTokenizer) -> None:
    style = AnswerFormat("llama3", one_call=True)
    for choice in ("auto", "required"):
        binding = Binding(tokenizer, style, opened=False, tool_choice=choice)
        assert binding.allows(GOOD)
        assert not binding.allows(f"{GOOD}; {OTHER}")


UNIT = {"enum": ["c", "f"]}
ROOTED = [
    {"$defs": {"Unit": UNIT}, "type": "object", "properties": {"unit": {"$ref": "#/$defs/Unit"}}},
    {
        "definitions": {"Unit": UNIT},
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "https://example.com/unit",
        "properties": {"unit": {"$ref": "#/definitions/Unit"}},
    },
    {"$ref": "#/$defs/Root", "$defs": {"Root": {"type": "object", "properties": {"unit": UNIT}}}},
    {"type": "object", "properties": {"unit": UNIT, "inner": {"$ref": "#"}}},
    {"anyOf": [{"type": "object", "properties": {"unit": UNIT}, "required": ["unit"]}]},
]


@pytest.mark.parametrize("schema", ROOTED)
def test_a_tools_schema_keeps_its_root(tokenizer: ChatTokenizer, schema: dict[str, Any]) -> None:
    # Another tool has something else under the same name.
    other = {"$defs": {"Unit": {"type": "integer"}}, "properties": {"unit": {"$ref": "#/$defs/Unit"}}}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": parameters}}
        for name, parameters in (("g", schema), ("h", other))
    ]
    binding = Binding(tokenizer, LLAMA, opened=False, tools=tools, tool_choice="required")
    assert binding.allows('{"name": "g", "parameters": {"unit": "c"}}')
    assert not binding.allows('{"name": "g", "parameters": {"unit": "k"}}')
    assert not binding.allows('{"name": "g", "parameters": {"unit": 1}}')
    assert binding.allows('{"name": "h", "parameters": {"unit": 1}}')
    assert not binding.allows('{"name": "h", "parameters": {"unit": "c"}}')


def test_a_property_may_be_named_like_a_reference(tokenizer: ChatTokenizer) -> None:
    schema = {"type": "object", "properties": {"$ref": {"enum": ["#/x"]}}, "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "g", "parameters": schema}}]
    binding = Binding(tokenizer, LLAMA, opened=False, tools=tools, tool_choice="required")
    assert binding.allows('{"name": "g", "parameters": {"$ref": "#/x"}}')


@pytest.mark.parametrize(
    "schema",
    [{}, None, True, {"$schema": "https://json-schema.org/draft/2020-12/schema"}, {"description": "x"}],
)
def test_arguments_are_an_object_whatever_the_schema_leaves_open(
    tokenizer: ChatTokenizer, schema: object
) -> None:
    tools = [{"type": "function", "function": {"name": "g", "parameters": schema}}]
    binding = Binding(tokenizer, LLAMA, opened=False, tools=tools, tool_choice="required")
    assert binding.allows('{"name": "g", "parameters": {"a": [1]}}')
    assert binding.allows('{"name": "g", "parameters": {}}')
    for wrong in ("1", "[]", "null", '"a"'):
        assert not binding.allows(f'{{"name": "g", "parameters": {wrong}}}')


@pytest.mark.parametrize("field", ["response_format", "structured_outputs"])
def test_the_schema_true_is_any_json(tokenizer: ChatTokenizer, field: str) -> None:
    asked: dict[str, Any] = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": True}},
        "structured_outputs": {"json": True},
    }
    binding = Binding(tokenizer, HERMES, opened=False, tools=[], **{field: asked[field]})
    for text in ("1", '{"a": []}', '"x"'):
        assert binding.allows(text)
    assert not binding.allows("x")


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
