"""Reasoning, tool calls and content told apart, in whatever pieces the text comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox_engine.tokenization.answer_format import (
    AnswerFormat,
    AnswerParser,
    Content,
    Part,
    Reasoning,
    ToolCall,
)

QWEN = "{% if tools %}<tools>…</tools> within <tool_call></tool_call>{% endif %}<think>…</think>"
HERMES = "{% for tool in tools %}…{% endfor %}<tool_call>…</tool_call>"
LLAMA = '{% if tools %}{"name": …, "parameters": …}{% endif %}'


def parse(
    style: AnswerFormat, pieces: list[str], *, with_tools: bool = True, opened: bool = False
) -> list[Part]:
    """The parts of a text that came in `pieces`, neighbours of a kind joined."""
    parser = AnswerParser(
        style, tools={name: {} for name in ("look_up", "a", "b", "f")} if with_tools else {}, opened=opened
    )
    parts: list[Part] = []
    for part in [part for piece in pieces for part in parser.feed(piece)] + parser.finish():
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
    (AnswerFormat.of(QWEN), "Well, <think>x</think>", [Content("Well, <think>x</think>")]),
    (AnswerFormat.of(LLAMA), 'See {"name": "a"}', [Content('See {"name": "a"}')]),
]


@pytest.mark.parametrize(("style", "text", "parts"), CASES, ids=range(len(CASES)))
@given(data=st.data())
def test_parts_do_not_depend_on_the_pieces(
    style: AnswerFormat, text: str, parts: list[Part], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(style, [text]) == parts
    assert parse(style, pieces) == parts
    assert parse(style, list(text)) == parts


def test_without_tools_nothing_is_a_call() -> None:
    assert parse(AnswerFormat.of(HERMES), [CALL], with_tools=False) == [Content(CALL)]
    text = '{"name": "a", "parameters": {}}'
    assert parse(AnswerFormat.of(LLAMA), [text], with_tools=False) == [Content(text)]


def test_a_prompt_that_opened_the_reasoning() -> None:
    parts = parse(AnswerFormat.of(QWEN), ["Well.</th", "ink>Nine."], opened=True)
    assert parts == [Reasoning("Well."), Content("Nine.")]


PIECES = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    '{"name": "a"}',
    "{",
    "; ",
    " ",
    "\n",
    "<",
    "x",
]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=9), opened=st.booleans())
def test_no_text_is_read_otherwise_in_pieces(pieces: list[str], opened: bool) -> None:
    text = "".join(pieces)
    for style in (AnswerFormat.of(QWEN), AnswerFormat.of(HERMES), AnswerFormat("llama3", reasons=True)):
        whole = parse(style, [text], opened=opened)
        assert parse(style, pieces, opened=opened) == whole
        assert parse(style, list(text), opened=opened) == whole


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
