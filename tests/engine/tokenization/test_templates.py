"""Prompts by chat templates, beside those that `transformers` makes of the same folders."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farebox_engine import TemplateError
from farebox_engine.tokenization.templates.chat_template import ChatTemplate
from farebox_engine.tokenization.tokenizer import ChatTokenizer
from tests.engine.tokenization.folders import ROWS, reference, write_folder

TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
SPECIAL = {"bos_token": "<|start|>", "eos_token": "<|end|>", "pad_token": "<|tool|>"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "wea<ther",
            "description": 'Wetter für <Orte> & "Städte"',
            "parameters": {
                "type": "object",
                "properties": {"<zip>": {"type": "string"}, "city": {"enum": ["Zürich", "\n<b>"]}},
            },
        },
    }
]
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be <brief>."},
    {"role": "user", "name": "Änne <a>", "content": "<doc>\n Is it </b> 9? </doc>  "},
    {"role": "assistant", "content": "<think>\nHm < 9.\n</think>\n\nYes [9].", "refusal": None},
    {"role": "user", "content": "And 1,234.5 <b>?\n<b>"},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Look <up>.",
        "tool_calls": [
            {
                "id": "c<1>",
                "type": "function",
                "function": {"name": "wea<ther", "arguments": {"a": ["<x>", 1]}},
            }
        ],
    },
    {
        "role": "tool",
        "tool_call_id": "c<1>",
        "name": "wea<ther",
        "content": "<tool_response>ok</tool_response>",
    },
    {"role": "user", "content": "<tool_response>x</tool_response>"},
]
LAST = "{% set c = messages[1].content %}"
TEMPLATES = {
    "turns": "{{ bos_token }}" + TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "special tokens": "{{ bos_token }}{{ eos_token }}{{ pad_token }}[{{ unk_token }}]",
    "names": "{% for m in messages %}{% if m.name is defined %}{{ m['name'] | e }}: {% endif %}{% endfor %}",
    "fields that are None": "{% for m in messages %}{{ 'refusal' in m }}{{ m.content is defined }}"
    "{% endfor %}",
    "tojson": "{{ messages | tojson }}{{ tools | tojson }}",
    "tojson, compact": "{{ tools | tojson(separators=(',', ':')) }}",
    "tojson, sorted": "{{ tools | tojson(sort_keys=true, indent=2) }}"
    "{{ messages[4] | tojson(sort_keys=true) }}",
    "tojson, ASCII": "{{ tools | tojson(ensure_ascii=True) }}{{ messages[1].name | tojson(true, indent=1) }}",
    "tojson, tabs": "{{ tools | tojson(indent='\\t') }}",
    "percent": LAST + "{{ '%s|%-9s|%05.1f|%d%%|%r' % (c, 'a', 3.14159, 7, c) }}{{ '%(a)s' % {'a': c} }}",
    "format": LAST + "{{ '{:>9}|{}'.format('ab', c) }}{{ '{0}|{x[0]}'.format(c, x='yz') }}"
    "{{ '{a} {b:,}'.format(a=c, b=1234567) }}{{ '{x}'.format_map({'x': c}) }}{{ '%s-%s' | format(c, 2) }}",
    "formats of items": "{{ '{0[content]} {0.role} {1[0]:02d}'.format(messages[0], [7]) }}",
    "widths": "{{ 'ab'.center(7) }}{{ 'ab'.ljust(5) }}|{{ 'ab'.rjust(5) }}{{ '7'.zfill(3) }}"
    "{{ 'a' | center(5) }}",
    "thinking": "{% for m in messages %}{% set c = m.content or '' %}{% if '</think>' in c %}"
    "{{ c.split('</think>')[-1].lstrip('\n') }}"
    "[{{ c.split('</think>')[0].split('<think>')[-1].strip('\n') }}]"
    "{% else %}{{ c }}{% endif %}{% endfor %}",
    "thinking, by a macro": "{% macro said(m) %}{% if m.content is string %}{{ m.content }}{% endif %}"
    "{% endmacro %}"
    "{% for m in messages %}{% set c = said(m) | trim %}"
    "{% if c.startswith('<think>') and '</think>' in c %}"
    "{{ c.partition('</think>')[2] }}{% endif %}{% endfor %}",
    "marks at the ends": "{% for m in messages | reverse %}{% if m.role == 'user' and not "
    "(m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}{{ m.content }}"
    "{% break %}{% endif %}{% endfor %}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{{ m.reasoning }}"
    "{% endfor %}",
    "calls": "{% for m in messages %}{% for t in m.tool_calls or [] %}"
    '<tool_call>\n{"name": "{{ t.function.name }}", "arguments": {{ t.function.arguments | tojson }}}\n'
    "</tool_call>{% endfor %}{{ m.tool_call_id }}{% endfor %}",
    "arguments": "{% for k, v in messages[4].tool_calls[0].function.arguments.items() %}"
    "<parameter={{ k }}>\n{{ v if v is string else v | tojson | safe }}\n</parameter>{% endfor %}",
    "schemas": "{% for k, v in tools[0].function.parameters.properties | dictsort %}{{ k }}:"
    "{{ v.type if v.type is defined else v.enum | join('|') }};{% endfor %}{{ tools[0].function['name'] }}",
    "text": LAST
    + "{{ c | trim | upper }}{{ c | replace('<doc>', '<|') | title }}{{ c.splitlines() }}{{ c | length }}"
    "{{ c[:4] }}{{ c[1:-2] }}{{ c | first }}{{ c.find('</b>') }}{{ c.count('<') }}{{ c.rsplit(None, 1) }}",
    "more text": LAST
    + "{{ c.removeprefix('<doc>').removesuffix('  ') }}{{ c.strip('< >') }}{{ c | list | length }}"
    "{{ c.index('>') }}{{ c.rpartition('<')[2] }}{{ c | urlencode }}{{ c | striptags }}{{ c | wordcount }}",
    "wrapping": "{{ messages[1].content | indent(3) }}{{ messages[1].content | wordwrap(6) }}"
    "{{ messages[1].content | truncate(12, true, '<>') }}"
    "{{ messages[1].content | indent(2, true, blank=true) }}",
    "comparing": "{{ messages[3].content == 'And 1,234.5 <b>?\\n<b>' }}"
    "{{ messages[0].content in ['Be <brief>.'] }}"
    "{{ messages[0].content < '<' }}{{ messages[5].name == messages[4].tool_calls[0].function.name }}"
    "{{ {'Be <brief>.': 1}[messages[0].content] }}{{ messages[0].content is in(('Be <brief>.', 'x')) }}",
    "grouping": "{{ messages | map(attribute='role') | unique | join(',') }}"
    "{% for r, ms in messages | groupby('role') %}{{ r }}{{ ms | length }}{% endfor %}"
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join('<|end|>') }}"
    "{{ messages | rejectattr('name', 'defined') | list | length }}",
    "joining": "{% set ns = namespace(t='') %}{% for m in messages %}"
    "{% set ns.t = ns.t ~ m.role ~ (m.content or '') "
    "+ '<' %}{% endfor %}{{ ns.t }}{{ '<think>' in ns.t }}{{ ns.t.split('<think>') | length }}",
    "blocks": "{% set x %}{{ messages[0].content }}!{% endset %}{{ x.endswith('>.!') }}"
    "{% filter upper %}{{ x }}{% endfilter %}{% macro twice() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    "{% call twice() %}{{ x }}{% endcall %}",
    "generation": "{% set x = 1 %}{% for m in messages %}{% generation %}{% set x = 2 %}{{ m.content }}"
    "{{ x }}"
    "{{ loop.index0 }}{% endgeneration %}{{ x }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "white space": "  {%- if true %}\n  a\n  {%- endif %}\n\n{# note #}\n   {% if true %}"
    "\n b\n {% endif %}\n<|end|>\n",
    "loops": "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}{{ loop.index }}"
    "{{ loop.last }}"
    "{{ loop.previtem.role if loop.previtem is defined }}{{ loop.cycle('a', 'b') }}{% endfor %}"
    "{{ range(3) | list }}",
    "dicts": "{{ dict(a=1) | tojson }}{{ dict.fromkeys(['a', 'b'], 0) }}"
    "{{ dict([('a', 2)]).items() | list }}",
    "lists as they are": "{{ tools }}{{ messages[1] }}{{ '%r' % messages[4].tool_calls }}"
    "{{ messages[1].content.split() | string }}",
    "variables": "{{ documents is none }}{{ documents is defined }}{{ tools is none }}"
    "{{ enable_thinking is defined }}",
    "reading the user's": "{{ messages[1].name in 'Änne <a> <b>' }}"
    "{{ 'Änne <a>!'.startswith(messages[1].name) }}"
    "{{ 'x<a>y'.replace(messages[1].name[-3:], '-') }}{{ 'x<a>y' | replace(messages[1].name[-3:], '-') }}"
    "{{ '12'[:1] | int + messages[3].content[-12:-8].strip('.,') | int }}{{ messages[1].name is in 'x' }}"
    "{{ messages[1].content.split('9')[1] | float }}{{ messages[1].content | safe | trim }}",
    "batches": "{{ [1, 2, 3] | batch(2, 0) | list }}{{ [1, 2, 3] | slice(2) | list }}{{ [1, 2] | sum }}",
    "numbers": "{{ 7 // 2 }}{{ 7 % 3 }}{{ 2 ** 5 }}{{ '-' * 3 }}{{ 3.14159 | round(2) }}{{ [1] * 2 + [3] }}",
    "dates": "{{ strftime_now('%Y-%m') }}{{ strftime_now('%z%Z') }}",
}
NAMED = [
    {"name": "default", "template": "d" + TURNS},
    {"name": "tool_use", "template": "t{{ tools | tojson }}"},
]
# name -> files, and tokenizer_config.json's chat_template
PLACES: dict[str, tuple[dict[str, Any], object]] = {
    "a string": ({}, "s" + TURNS),
    "a list": ({}, [*NAMED, {"name": "rag", "template": "{{ documents[0].title }}"}]),
    "a list without one for tools": ({}, NAMED[:1]),
    "an object": ({}, {"default": "o" + TURNS, "tool_use": "u{{ tools }}"}),
    "a file": ({"chat_template.jinja": "f" + TURNS}, "s" + TURNS),
    "a file goes before a list": ({"chat_template.jinja": "f" + TURNS}, NAMED),
    "a folder beside a file": (
        {"chat_template.jinja": "f" + TURNS, "additional_chat_templates/tool_use.jinja": "a{{ tools }}"},
        None,
    ),
    "a folder with its own default": (
        {"chat_template.jinja": "f" + TURNS, "additional_chat_templates/default.jinja": "a" + TURNS},
        None,
    ),
    "a folder of others": (
        {"additional_chat_templates/rag.jinja": "{% bad %}", "chat_template.jinja": TURNS},
        None,
    ),
}


def both(folder: Path, messages: list[dict[str, Any]], **options: Any) -> tuple[list[int], list[int]]:
    """The prompt's tokens, ours and those of `transformers`."""
    tokenizer = ChatTokenizer.load(folder, ROWS + 8)
    expected = reference(folder).apply_chat_template(messages, tokenize=True, return_dict=False, **options)
    return tokenizer.render_chat(messages, **options), expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_write_what_they_write_with_transformers(tmp_path: Path, name: str) -> None:
    template = TEMPLATES[name]
    library = reference(write_folder(tmp_path / "m", {}, chat_template=template, **SPECIAL))
    expected = library.apply_chat_template(CHAT, tools=TOOLS, tokenize=False, add_generation_prompt=True)
    compiled = ChatTemplate(template, SPECIAL)
    assert compiled.render(CHAT, tools=TOOLS, add_generation_prompt=True).text == expected


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_the_template_is_chosen_as_by_transformers(
    tmp_path: Path, place: str, tools: list[Any] | None
) -> None:
    files, template = PLACES[place]
    folder = write_folder(tmp_path / "m", files, chat_template=template)
    ours, expected = both(
        folder, [{"role": "user", "content": "Nine?"}], tools=tools, add_generation_prompt=True
    )
    assert ours == expected


def test_without_a_template_for_plain_chats_there_are_only_those_with_tools(tmp_path: Path) -> None:
    files = {"additional_chat_templates/tool_use.jinja": "t{{ tools }}"}
    folder = write_folder(tmp_path / "m", files, chat_template="s" + TURNS)
    tokenizer = ChatTokenizer.load(folder, ROWS)
    assert tokenizer.render_chat(CHAT, tools=[]) == tokenizer.encode("t[]")
    with pytest.raises(TemplateError, match="templates for tool_use only"):
        tokenizer.render_chat(CHAT)


@pytest.mark.parametrize("strings", ["<think>\nHm\n</think>\n\nYes", "<|end|><think>x</think>y"])
def test_reasoning_is_cut_from_earlier_answers_and_control_tokens_stay_text(
    tmp_path: Path, strings: str
) -> None:
    folder = write_folder(tmp_path / "m", {}, chat_template=TEMPLATES["thinking"])
    messages = [{"role": "assistant", "content": strings}]
    ours, expected = both(folder, messages, add_generation_prompt=False)
    library = reference(folder)
    assert library.decode(ours) == library.decode(expected)
    assert not {number for number in ours if number >= 256}


READING = ["thinking", "text", "joining", "wrapping"]
PIECES = ["<think>", "</think>", "<|end|>", "<|", "|>", "end", "\n", " ", "<", "x", "é", "</", "think>"]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return {
        name: reference(write_folder(tmp_path_factory.mktemp("m") / "m", {}, chat_template=TEMPLATES[name]))
        for name in READING
    }


@settings(max_examples=60, deadline=None)
@given(content=st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@pytest.mark.parametrize("name", READING)
def test_a_users_text_is_read_as_it_is(libraries: dict[str, Any], name: str, content: str) -> None:
    chat = [{"role": "system", "content": content}, {"role": "user", "content": content or "<"}]
    expected = libraries[name].apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    written = ChatTemplate(TEMPLATES[name], {}).render(chat, add_generation_prompt=True)
    assert written.text == expected


# How a template may come to write what a user wrote, and what a user writes so that "<|end|>" comes of it.
DISGUISES = {
    "as it is": ("{{ c }}", "<|end|>"),
    "in JSON": ("{{ {'a': [c]} | tojson }}", "<|end|>"),
    "in a list": ("{{ [c] }}", "<|end|>"),
    "in lower case": ("{{ c | lower }}", "<|END|>"),
    "in lower case, by a method": ("{{ ('a' ~ c).lower() }}", "<|END|>"),
    "without tags": ("{{ c | striptags }}", "&lt;|end|&gt;"),
    "without tags, half of it a template's": ("{{ ('&' ~ c) | striptags }}", "lt;|end|>"),
    "after the template's bracket": ("{{ '<' ~ c ~ '>' }}", "|end|"),
    "between the template's": ("<|{{ c }}|>", "end"),
    "in a macro": ("{% macro m(x) %}<{{ x }}{% endmacro %}{{ m(c) }}", "|end|>"),
    "by a format": ("{{ '<|%s>' % c }}{{ '<{}>'.format(c) }}", "end|"),
    "by a filter": ("{{ ['<|', c] | join }}{{ c | replace('d', 'd|') }}", "end|>"),
    "as what is safe": ("{{ '<' ~ (c | safe) }}{{ '<' ~ (c | tojson | safe) }}", "|end|>"),
    "character by character": ("<{% for x in c %}{{ x }}{% endfor %}", "|end|>"),
    "cut": ("<{{ c[2:] }}{{ c.split('.')[1] }}{{ c | truncate(9, end='') }}", "x.|end|>"),
    "wrapped": ("<{{ c | wordwrap(40) }}{{ c | indent(2) }}{{ c | trim }}", "|end|>"),
    "as a key": ("{% for k in {c: 1} %}<{{ k }}{% endfor %}", "|end|>"),
    "replaced, the rest a user's": ("{{ c | replace('&lt;', '<') }}", "&lt;|end|>"),
}


@pytest.mark.parametrize("way", DISGUISES)
def test_no_way_through_a_template_makes_a_control_token_of_a_users_text(tmp_path: Path, way: str) -> None:
    source, content = DISGUISES[way]
    template = "<|end|>{% set c = messages[0].content %}" + source
    ours, expected = both(
        write_folder(tmp_path / "m", {}, chat_template=template), [{"role": "user", "content": content}]
    )
    library = reference(tmp_path / "m")
    end = library.convert_tokens_to_ids("<|end|>")
    assert ours.count(end) == 1 < expected.count(end) + (way == "in a list")
    assert library.decode(ours) == library.decode(expected)


# Control tokens of which the first character is none that stands in the text that a user sends.
SPELT_ANEW = {
    "\n:go": ("{{ c | tojson }}{{ c }}", "a\n:go"),
    '\\"go': ("{{ c | tojson }}", '"go'),
    "\\ngo": ("{{ [c] }}{{ c | tojson }}", "\ngo"),
    "\\u00e9go": ("{{ c | tojson(ensure_ascii=true) }}", "égo"),
    '"go"': ("{{ c | tojson }}{{ {c: 1} | tojson }}", "go"),
    "&lt;go": ("{{ c | e }}", "<go"),
    "%3Cgo": ("{{ c | urlencode }}", "<go"),
    "go": ("{{ c | lower }}", "GO"),
    "Go": ("{{ c | title }}{{ c | capitalize }}", "gO"),
    "SS": ("{{ c | upper }}", "ß"),
}


@pytest.mark.parametrize("token", SPELT_ANEW)
def test_what_a_template_spells_anew_is_no_control_token_either(tmp_path: Path, token: str) -> None:
    source, content = SPELT_ANEW[token]
    folder = write_folder(
        tmp_path / "m",
        {},
        chat_template="{% set c = messages[0].content %}" + source,
        extra_special_tokens=[token],
    )
    ours, expected = both(folder, [{"role": "user", "content": content}])
    library = reference(folder)
    assert library.convert_tokens_to_ids(token) in expected
    assert library.convert_tokens_to_ids(token) not in ours
    assert library.decode(ours) == library.decode(expected)


@pytest.mark.parametrize(
    "source", ["{{ c.encode().decode() }}", "{{ (c | e).unescape() }}", "{{ ('' | e + c).striptags() }}"]
)
def test_what_would_forget_who_wrote_a_text_is_refused(source: str) -> None:
    chat = [{"role": "user", "content": "&lt;"}]
    template = ChatTemplate("{% set c = messages[0].content %}" + source, {})
    with pytest.raises(TemplateError, match="unsafe"):
        template.render(chat, add_generation_prompt=True)


def test_an_error_of_a_template_tells_what_the_user_wrote() -> None:
    template = ChatTemplate("{{ raise_exception('No ' ~ messages[0].content) }}", {})
    with pytest.raises(TemplateError, match="No tea"):
        template.render([{"role": "user", "content": "tea"}], add_generation_prompt=True)


@pytest.mark.parametrize("characters", ["\U000f0000\U0010fffd", "\ud800", "é" * 200 + "\U0001f600" * 70_000])
def test_any_character_comes_back_as_it_is(characters: str) -> None:
    template = ChatTemplate("{{ messages[0].content }}", {})
    chat = [{"role": "user", "content": characters}]
    assert template.render(chat, add_generation_prompt=True).text == characters
