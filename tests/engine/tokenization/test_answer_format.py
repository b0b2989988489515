"""Reasoning, tool calls and content told apart, in whatever pieces the text comes."""

import json
import sys
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine.tokenization.answer_format import AnswerFormat
from farebox_engine.tokenization.answer_parser import AnswerParser, Content, Part, Reasoning, ToolCall
from farebox_engine.tokenization.calls.xml_calls import outline

QWEN = "{% if tools %}<tools>…</tools> within <tool_call></tool_call>{% endif %}<think>…</think>"
HERMES = "{% for tool in tools %}…{% endfor %}<tool_call>…</tool_call>"
LLAMA = '{% if tools %}{"name": …, "parameters": …}{% endif %}'
CODER = (
    "{% if tools %}<tool_call><function=name><parameter=name>…</parameter></function></tool_call>{% endif %}"
)
TOOLS: dict[str, object] = {
    "look_up": {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "array"}}},
    "a": {},
    "b": {},
    "f": {},
}


def parse(
    style: AnswerFormat,
    pieces: list[str],
    *,
    with_tools: bool = True,
    opened: bool = False,
    cut: bool = False,
) -> list[Part]:
    """The parts of a text that came in `pieces`, neighbours of a kind joined."""
    parser = AnswerParser(style, tools=TOOLS if with_tools else {}, opened=opened)
    parts: list[Part] = []
    for part in [part for piece in pieces for part in parser.feed(piece)] + parser.finish(cut=cut):
        last = parts[-1] if parts else None
        if isinstance(part, Content) and isinstance(last, Content):
            parts[-1] = Content(last.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            parts[-1] = Reasoning(last.text + part.text)
        else:
            parts.append(part)
    return parts


def test_the_template_tells_the_format() -> None:
    assert AnswerFormat.of(QWEN) == AnswerFormat("hermes", reasons=True)
    assert AnswerFormat.of(HERMES) == AnswerFormat("hermes")
    assert AnswerFormat.of(LLAMA) == AnswerFormat("llama3")
    assert AnswerFormat.of("{{ messages }} <tool_call>") == AnswerFormat()
    assert AnswerFormat.of(None) == AnswerFormat()
    assert AnswerFormat.of(CODER) == AnswerFormat("qwen3_coder")
    assert AnswerFormat.of(LLAMA, "<think></think>") == AnswerFormat("llama3", reasons=True)


@pytest.mark.parametrize(
    "marks",
    [
        "[TOOL_CALLS]",
        "<|tool_call|>",
        "<seed:tool_call>",
        "<｜tool▁calls▁begin｜>",
        "<|tool_calls_section_begin|>",
        "<start_function_call>",
        "<tool_call>{{ name }}\n<arg_key>k</arg_key>",
        '<tool_call><invoke name="f">',
    ],
)
def test_calls_in_a_form_that_is_not_known_are_not_taken_for_another(marks: str) -> None:
    template = f'{{% if tools %}}{{"name": …, "parameters": …}}{marks}{{% endif %}}{{{{ m.tool_calls[0] }}}}'
    assert AnswerFormat.of(template) == AnswerFormat()


def test_words_about_calls_are_no_marks() -> None:
    template = "{% for t in tools %}{% if m['tool_calls'] and t<tool_calls[0] %}"
    template += "{{ [tool_call] }}{% endif %}{% endfor %}"
    assert AnswerFormat.of(template + '"parameters"').calls == "llama3"


CALL = '<tool_call>\n{"name": "look_up", "arguments": {"city": "Zürich", "n": [1]}}\n</tool_call>'
CASES: list[tuple[AnswerFormat, str, list[Part]]] = [
    (AnswerFormat(), "<think>x</think> <tool_call>", [Content("<think>x</think> <tool_call>")]),
    (AnswerFormat.of(QWEN), "Plain < text </think", [Content("Plain < text </think")]),
    (
        AnswerFormat.of(QWEN),
        "<think>\nWell.\n</think>\n\nNine.",
        [Reasoning("\nWell."), Content("Nine.")],
    ),
    (
        AnswerFormat.of(QWEN),
        f"<think>Look.</think>{CALL}\n{CALL}",
        [Reasoning("Look."), *[ToolCall("look_up", '{"city": "Zürich", "n": [1]}')] * 2],
    ),
    (
        AnswerFormat.of(HERMES),
        f"Let me see.\n{CALL}",
        [Content("Let me see."), ToolCall("look_up", '{"city": "Zürich", "n": [1]}')],
    ),
    (
        AnswerFormat.of(HERMES),
        "<tool_call>no json</tool_call> after",
        [Content("<tool_call>no json</tool_call> after")],
    ),
    (AnswerFormat.of(HERMES), '<tool_call>{"name": "a"}', [ToolCall("a", "{}")]),
    (
        AnswerFormat.of(HERMES),
        '<tool_call>{"name": 5}</tool_call>',
        [Content('<tool_call>{"name": 5}</tool_call>')],
    ),
    (
        AnswerFormat.of(LLAMA),
        '{"name": "a", "parameters": {"x": 1}}; {"name": "b", "parameters": {}}',
        [ToolCall("a", '{"x": 1}'), ToolCall("b", "{}")],
    ),
    (AnswerFormat.of(LLAMA), '{"name": "a", "par', [Content('{"name": "a", "par')]),
    (AnswerFormat.of(LLAMA), '{"temperature": 3}', [Content('{"temperature": 3}')]),
    (
        AnswerFormat.of(HERMES),
        "So \n <tool_call>{}</tool_call> then",
        [Content("So \n <tool_call>{}</tool_call> then")],
    ),
    (
        AnswerFormat.of(HERMES),
        '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>',
        [Content('<tool_call>{"name": "nobody", "arguments": {}}</tool_call>')],
    ),
    (
        AnswerFormat.of(HERMES),
        '<tool_call>{"name": "a", "parameters": {"t": "</tool_call>{\\"<tool_call>"}}\n</tool_call>\nDone.',
        [ToolCall("a", '{"t": "</tool_call>{\\"<tool_call>"}'), Content("Done.")],
    ),
    (
        AnswerFormat.of(HERMES),
        '<tool_call>{"name": "a", "arguments": "{\\"n\\": 1}"}</tool_call>'
        '<tool_call>{"name": "b", "arguments": null}</tool_call>',
        [ToolCall("a", '{"n": 1}'), ToolCall("b", "{}")],
    ),
    (
        AnswerFormat.of(HERMES),
        '<tool_call>{"name": "a", "arguments": {"t": "two\nlines"}}</tool_call>',
        [ToolCall("a", '{"t": "two\\nlines"}')],
    ),
    (
        AnswerFormat.of(HERMES),
        '<tool_call>{"name": "a}</tool_call> so <tool_call>{"name": "b"}</tool_call>',
        [Content('<tool_call>{"name": "a}</tool_call> so'), ToolCall("b", "{}")],
    ),
    (
        AnswerFormat.of(HERMES),
        '<tool_call>{"name": "nobody", "argu',
        [Content('<tool_call>{"name": "nobody", "argu')],
    ),
    (AnswerFormat.of(LLAMA), '{"name": "Anna", "age": 3}', [Content('{"name": "Anna", "age": 3}')]),
    (
        AnswerFormat.of(LLAMA),
        '{"name": "a", "arguments": {"x": 1}}; {"name": "Anna"}',
        [Content('{"name": "a", "arguments": {"x": 1}}; {"name": "Anna"}')],
    ),
    (AnswerFormat.of(LLAMA), '{"name": "a", "arguments": {"x": 1}}', [ToolCall("a", '{"x": 1}')]),
    (
        AnswerFormat.of(CODER),
        "Look:\n<tool_call>\n<function=look_up>\n<parameter=city>\nZürich\n\n</parameter>\n<parameter=n>\n[1]\n"
        "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=b>\n</function>\n</tool_call>",
        [Content("Look:"), ToolCall("look_up", '{"city": "Zürich\\n", "n": [1]}'), ToolCall("b", "{}")],
    ),
    (
        AnswerFormat.of(CODER),
        "<tool_call><function=a><parameter=t>x</parameter> y</function></tool_call>z"
        "</parameter></function></tool_call>",
        [ToolCall("a", '{"t": "x</parameter> y</function></tool_call>z"}')],
    ),
    (
        AnswerFormat.of(CODER),
        "<tool_call><function=nobody></function></tool_call>",
        [Content("<tool_call><function=nobody></function></tool_call>")],
    ),
    (
        AnswerFormat.of(CODER),
        '<tool_call>{"name": "a"}</tool_call> no',
        [Content('<tool_call>{"name": "a"}</tool_call> no')],
    ),
    (
        AnswerFormat.of(CODER),
        "<tool_call><function=a><parameter=t>1</tool_call></parameter></function>! </tool_call>"
        "<tool_call><function=b></function></tool_call>",
        [
            Content("<tool_call><function=a><parameter=t>1</tool_call></parameter></function>! </tool_call>"),
            ToolCall("b", "{}"),
        ],
    ),
    (
        AnswerFormat.of(CODER),
        "<tool_call><function=a><parameter=t></tool_call></parameter><parameter=u</tool_call>x>y</parameter>"
        "</function></tool_call>",
        [ToolCall("a", '{"t": "</tool_call>", "u</tool_call": "x>y"}')],
    ),
    (
        AnswerFormat.of(HERMES),
        '<tool_call>{"name": "a", "arguments": {"t": "\\\\</tool_call>\\"</tool_call>", "u": "</tool_call>"}}'
        "</tool_call>",
        [ToolCall("a", '{"t": "\\\\</tool_call>\\"</tool_call>", "u": "</tool_call>"}')],
    ),
    (AnswerFormat.of(QWEN), "Well, <think>x</think>", [Content("Well, <think>x</think>")]),
    (AnswerFormat.of(LLAMA), 'See {"name": "a"}', [Content('See {"name": "a"}')]),
]


@pytest.mark.parametrize(("style", "text", "parts"), CASES, ids=range(len(CASES)))
@settings(deadline=None)
@given(data=st.data())
def test_parts_do_not_depend_on_the_pieces(
    style: AnswerFormat, text: str, parts: list[Part], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(style, [text]) == parts
    assert parse(style, pieces) == parts
    assert parse(style, list(text)) == parts


CUT: list[tuple[AnswerFormat, str, list[Part]]] = [
    (
        AnswerFormat.of(HERMES),
        'See: <tool_call>\n{"name": "a", "arguments": {"t": "x</tool_c',
        [Content("See:")],
    ),
    (AnswerFormat.of(HERMES), 'See: <tool_call>\n{"name": "a', [Content("See:")]),
    (AnswerFormat.of(HERMES), "See: <tool_call>", [Content("See:")]),
    (
        AnswerFormat.of(LLAMA),
        '{"name": "b", "parameters": {}}; {"name": "a", "parameters": {"x": ',
        [ToolCall("b", "{}")],
    ),
    (
        AnswerFormat.of(CODER),
        "<tool_call><function=a><parameter=t>x</parameter><parameter=u>y",
        [],
    ),
    (AnswerFormat.of(CODER), "Well. <tool_call>\n<func", [Content("Well.")]),
    (AnswerFormat.of(HERMES), "<tool_call>no json", [Content("<tool_call>no json")]),
    (AnswerFormat.of(LLAMA), '{"name": "a", "parameters": {"x": ', []),
    (AnswerFormat.of(LLAMA), '{"name": "a", "par', [Content('{"name": "a", "par')]),
    (
        AnswerFormat.of(LLAMA),
        '{"name": "Anna", "parameters": {',
        [Content('{"name": "Anna", "parameters": {')],
    ),
]


@pytest.mark.parametrize(("style", "text", "parts"), CUT, ids=range(len(CUT)))
def test_a_call_that_is_cut_short_leaks_no_markup(style: AnswerFormat, text: str, parts: list[Part]) -> None:
    assert parse(style, [text], cut=True) == parts
    assert parse(style, list(text), cut=True) == parts
    # One that the model itself leaves open is what it wrote.
    assert parse(style, [text]) == parse(style, list(text)) == [Content(text)]


def test_without_tools_nothing_is_a_call() -> None:
    assert parse(AnswerFormat.of(HERMES), [CALL], with_tools=False) == [Content(CALL)]
    text = '{"name": "a", "parameters": {}}'
    assert parse(AnswerFormat.of(LLAMA), [text], with_tools=False) == [Content(text)]


def test_a_prompt_that_opened_the_reasoning() -> None:
    parts = parse(AnswerFormat.of(QWEN), ["Well.</th", "ink>Nine."], opened=True)
    assert parts == [Reasoning("Well."), Content("Nine.")]


DEEP = '{"x":' * 90_000 + "1" + "}" * 90_000
NO_JSON = ["NaN", "Infinity", "-Infinity", "1e999", DEEP]


@pytest.mark.parametrize("value", NO_JSON)
@pytest.mark.parametrize("written", ["arguments", "a string", "parameters", "several"])
def test_arguments_that_are_no_json_make_no_call(value: str, written: str) -> None:
    given = json.dumps(f'{{"x": {value}}}') if written == "a string" else f'{{"x": {value}}}'
    text = f'{{"name": "a", "arguments": {given}}}'
    if written in {"arguments", "a string"}:
        text = f"<tool_call>{text}</tool_call>"
        assert parse(AnswerFormat.of(HERMES), [text]) == [Content(text)]
    else:
        text += '; {"name": "b"}' if written == "several" else ""
        assert parse(AnswerFormat.of(LLAMA), [text]) == [Content(text)]


@pytest.mark.parametrize("value", NO_JSON[:3])
def test_a_parameter_that_is_no_json_is_a_text(value: str) -> None:
    text = f"<tool_call><function=look_up><parameter=n>{value}</parameter></function></tool_call>"
    assert parse(AnswerFormat.of(CODER), [text]) == [ToolCall("look_up", json.dumps({"n": value}))]


def test_a_call_can_be_nested_as_deep_as_it_can_be_read_and_written() -> None:
    """Python reads JSON somewhat deeper than it writes it; wherever that ends, nothing raises."""
    found = set()
    for depth in range(700, 1_000):
        value = "[" * depth + "]" * depth
        text = f'<tool_call>{{"name": "a", "arguments": {{"x": {value}}}}}</tool_call>'
        (part,) = parse(AnswerFormat.of(HERMES), [text])
        assert part in (Content(text), ToolCall("a", f'{{"x": {value}}}'))
        found.add(type(part))
    assert found == {Content, ToolCall}


class CountedTools(dict[str, object]):
    """Tools that count how often one of them is looked up: once for each time that a call is read."""

    looked_up = 0

    def __contains__(self, name: object) -> bool:
        self.looked_up += 1
        return super().__contains__(name)

    def get(self, name: str, otherwise: object = None) -> object:
        self.looked_up += 1
        return super().get(name, otherwise)


def json_decodings(parser: AnswerParser, pieces: list[str]) -> int:
    """How often JSON is decoded while `pieces` are read."""
    decode = json.JSONDecoder.raw_decode.__code__
    count = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_code is decode

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for piece in pieces:
            parser.feed(piece)
        parser.finish()
    finally:
        sys.setprofile(before)
    return count


OPEN_VALUE = "<tool_call><function=a><parameter=t>"
MARKS = {
    "within one value": [OPEN_VALUE, *["</tool_call>"] * 500],
    "within one value that ends": [
        OPEN_VALUE,
        *["</tool_call>"] * 500,
        "</parameter>",
        "</function>",
        "</tool_call>",
    ],
    "each after a value of its own": [OPEN_VALUE, "</tool_call>"] * 500,
    "and all of them in vain": [*[OPEN_VALUE, "</tool_call>"] * 500, "</parameter></function>!</tool_call>"],
    "of nobody's functions": [
        *["<tool_call><function=x><parameter=t>", "</tool_call>"] * 500,
        "</parameter></function></tool_call>",
    ],
}


@pytest.mark.parametrize("marks", MARKS)
def test_a_call_is_not_read_again_for_each_mark_in_it(marks: str) -> None:
    tools = CountedTools(a={})
    parser = AnswerParser(AnswerFormat.of(CODER), tools=tools)
    parts = [part for piece in MARKS[marks] for part in parser.feed(piece)] + parser.finish()
    assert tools.looked_up <= sum(map(MARKS[marks].count, {OPEN_VALUE, MARKS[marks][0]})) + 3
    if marks == "within one value that ends":
        assert parts == [ToolCall("a", json.dumps({"t": "</tool_call>" * 500}))]
    else:
        assert "".join(part.text for part in parts if isinstance(part, Content)) == "".join(MARKS[marks])


@pytest.mark.parametrize(
    "pieces",
    [
        ['<tool_call>{"name": "a", "arguments": {"t": "', *["</tool_call>"] * 500],
        ['<tool_call>{"name": "a", "arguments": {"t": "', *["</tool_call>"] * 500, '"}}', "</tool_call>"],
        ['<tool_call>{"\\"', "</tool_call>"] * 500,
        ['<tool_call>{"a": "', "</tool_call>"] * 500,
    ],
)
def test_json_is_not_decoded_again_for_each_mark_in_it(pieces: list[str]) -> None:
    parser = AnswerParser(AnswerFormat.of(HERMES), tools={"a": {}})
    assert json_decodings(parser, pieces) <= 2 * pieces.count(pieces[0]) + 2


PIECES = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    '{"name": "a"}',
    '{"name": "a", "arguments": {"x": "',
    '"}}',
    "<function=a>",
    "</function>",
    "<parameter=x>",
    "</parameter>",
    "{",
    "; ",
    " ",
    "\n",
    "<",
    "x",
]


@settings(deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=9), opened=st.booleans())
def test_no_text_is_read_otherwise_in_pieces(pieces: list[str], opened: bool) -> None:
    text = "".join(pieces)
    for style in (
        AnswerFormat.of(QWEN),
        AnswerFormat.of(HERMES),
        AnswerFormat("llama3", reasons=True),
        AnswerFormat.of(CODER),
    ):
        whole = parse(style, [text], opened=opened)
        assert parse(style, pieces, opened=opened) == whole
        assert parse(style, list(text), opened=opened) == whole


@settings(deadline=None)
@given(st.text(alphabet='<>/thinkol_ca{}":;, \nx'))
def test_nothing_is_lost_and_nothing_raises(text: str) -> None:
    for style in (AnswerFormat.of(QWEN), AnswerFormat.of(LLAMA)):
        parts = parse(style, list(text))
        said = "".join(part.text for part in parts if not isinstance(part, ToolCall))
        marks = said.replace(" ", "").replace("\n", "")
        assert len(marks) <= len(text)
    assert parse(AnswerFormat(), [text]) == ([Content(text)] if text else [])


@pytest.mark.parametrize("style", [AnswerFormat("hermes"), AnswerFormat("llama3")])
def test_half_a_surrogate_pair_that_a_model_escaped_can_be_sent(style: AnswerFormat) -> None:
    key = "arguments" if style.calls == "hermes" else "parameters"
    marks = ("<tool_call>", "</tool_call>") if style.calls == "hermes" else ("", "")

    def read(name: str) -> list[Part]:
        text = f'{{"name": "{name}", "{key}": {{"city": "\\ud83d", "zip": "Zürich"}}}}'
        return parse(style, [marks[0] + text + marks[1]])

    assert read("f") == [ToolCall("f", '{"city": "\\ud83d", "zip": "Z\\u00fcrich"}')]
    (said,) = read("\\ud83d")
    assert isinstance(said, Content)
    assert said.text.encode()


SCHEMA = {
    "properties": {
        "s": {"type": "string"},
        "i": {"type": "integer"},
        "b": {"type": "boolean"},
        "o": {"type": "object"},
        "m": {"type": ["string", "null"]},
        "u": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "e": {"enum": ["1", "2"]},
    }
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("s", "12", "12"),
        ("i", "12", 12),
        ("i", "twelve", "twelve"),
        ("b", "True", True),
        ("b", "false", False),
        ("o", '{"a": [1]}', {"a": [1]}),
        ("m", "null", None),
        ("m", "12", "12"),
        ("u", "12", 12),
        ("e", "1", "1"),
        ("unknown", "12", "12"),
        ("s", "\n two\n lines \n", " two\n lines "),
    ],
)
@pytest.mark.parametrize("schema", [SCHEMA, outline(SCHEMA)], ids=["whole", "outlined"])
def test_a_parameter_in_xml_is_what_its_schema_says(
    name: str, text: str, value: object, schema: object
) -> None:
    body = f"<tool_call><function=f><parameter={name}>{text}</parameter></function></tool_call>"
    parser = AnswerParser(AnswerFormat("qwen3_coder"), tools={"f": schema})
    (call,) = [*parser.feed(body), *parser.finish()]
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments) == {name: value}
