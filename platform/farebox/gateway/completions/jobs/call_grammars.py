"""What binds an answer to calls of tools that are right, in the form that the model writes them in."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from farebox.gateway.completions.jobs.tool_schemas import any_call_schema, call_schema
from farebox.gateway.completions.jobs.tools import OfferedTool
from farebox.gateway.completions.messages import NamedTool
from farebox.gateway.completions.requests import ChatCompletionRequest
from farebox.gateway.errors import InvalidParameter
from farebox.gateway.models.answer_format import (
    CLOSE_CALL,
    CLOSE_REASONING,
    OPEN_CALL,
    OPEN_REASONING,
    WHITE_SPACE,
    AnswerFormat,
)
from farebox.gateway.models.grammar import JSON_WHITE_SPACE, GrammarSpec


def call_grammar(
    request: ChatCompletionRequest,
    style: AnswerFormat,
    tools: Sequence[OfferedTool],
    answer: dict[str, Any] | None = None,
) -> GrammarSpec | None:
    """What the answer must be so that `tool_choice`, `strict` and `parallel_tool_calls` hold.

    None where any text may come. `tools` are those that may be called. `answer` is the JSON schema of what
    is said where no tool is called; a call that must come leaves no room for it.
    """
    choice = request.tool_choice
    if not tools:
        return None
    if isinstance(choice, NamedTool):
        tools = [tool for tool in tools if tool.name == choice.function.name]
    once = isinstance(choice, NamedTool) or request.parallel_tool_calls is False or style.one_call
    required = isinstance(choice, NamedTool) or choice == "required"
    bound = required or any(tool.strict for tool in tools)
    if style.calls == "qwen3_coder" and bound:
        raise InvalidParameter(
            f"The model `{request.model}` writes calls that are no JSON, so that they cannot be enforced; "
            "let `tool_choice` be `auto` or `none`, and leave out `strict`.",
            "tool_choice" if required else "tools",
        )
    if required:
        return _spec(_calls(style, once), tools, style, bound=True)
    if answer is not None:
        start = f"{_calls(style, once, bound=bound)} | answer"
        start = f"thought* GAP? ({start})" if style.reasons else start
        return _spec(start, tools, style, bound=bound, answer=answer)
    if bound or once:
        return _spec(_free_or_called(style, once, bound), tools, style, bound=bound)
    return None


def _calls(style: AnswerFormat, once: bool, *, bound: bool = True) -> str:
    """Calls and nothing beside them."""
    if style.calls == "llama3":
        return "call TAIL?" if once else 'call ("; " call)* TAIL?'
    marked = f'"{OPEN_CALL}" {_call(style, bound)}'
    return marked if once else f'{marked} ("\\n" {marked})*'


def _call(style: AnswerFormat, bound: bool) -> str:
    """What follows the mark that opens a call, up to the one that closes it."""
    if style.calls == "qwen3_coder":
        return "closed_function"
    return _CALL if bound else _LOOSE_CALL


def _free_or_called(style: AnswerFormat, once: bool, bound: bool) -> str:
    """Any text, but what begins like a call is nothing but calls."""
    if style.calls != "llama3":
        called = f"opened_call {_call(style, bound)}"
        return f"{called} | TEXT" if once else f"({called})* TEXT"
    if not bound:
        return "thought* (named_call | TEXT)" if style.reasons else "named_call | TEXT"
    # Of Llama's, a brace begins one.
    calls = f"SPACE? {_calls(style, once)}"
    return f"thought* ({calls} | UNMARKED)" if style.reasons else f"{calls} | PLAIN"


def _spec(
    start: str,
    tools: Sequence[OfferedTool],
    style: AnswerFormat,
    *,
    bound: bool,
    answer: dict[str, Any] | None = None,
) -> GrammarSpec:
    rules = [f"start: {start}", _RULES]
    if re.search(r"\bcall\b", start):
        key = "parameters" if style.calls == "llama3" else "arguments"
        rules.append(_json_rule("call", call_schema(tools, key) if bound else any_call_schema(tools, key)))
    if "named_call" in start:
        names = " | ".join(f'"\\"{tool.name}\\""' for tool in tools)
        rules += [f"NAME: {names}", 'named_call: opened_name COLON NAME PARAMETERS object "}" TAIL?']
        rules.append(_json_rule("object", {"type": "object"}))
    if answer is not None:
        rules.append(_json_rule("answer", answer))
    return GrammarSpec("lark", "\n".join(rules), "tools" if answer is None else "response_format")


def _json_rule(name: str, schema: dict[str, Any]) -> str:
    bounded = schema | {"x-guidance": {"whitespace_pattern": JSON_WHITE_SPACE}}
    return f"{name}: %json {msgspec.json.encode(bounded).decode()}"


_LOOSE_CALL = f'GAP? call GAP? "{CLOSE_CALL}"'
_CALL = f'"\\n" call "\\n{CLOSE_CALL}"'
# A tail is what stands between Llama's calls: a token that ends one may hold some of it. White space that
# nobody needs has a bound, as somebody pays for it.
# What is lazy ends, and wins over other readings, as soon as it can.
_RULES = rf"""
opened_call[lazy]: TEXT "{OPEN_CALL}"
closed_function[lazy]: TEXT /<\/function>{WHITE_SPACE}*<\/tool_call>/
opened_name[lazy]: /{WHITE_SPACE}*\{{{WHITE_SPACE}*("type"\s*:\s*"function"\s*,\s*)?"name"/
thought[lazy]: /{WHITE_SPACE}*{OPEN_REASONING}/ TEXT "{CLOSE_REASONING}"
COLON: /\s{{0,2}}:\s{{0,2}}/
PARAMETERS: /\s{{0,2}},\s{{0,2}}"parameters"\s{{0,2}}:\s{{0,2}}/
TEXT: /(?s:.*)/
SPACE: /{WHITE_SPACE}{{1,8}}/
TAIL: /;[ \n]{{0,4}}|[ \n]{{1,4}}/
GAP: /{WHITE_SPACE}{{1,8}}/
PLAIN: TEXT & ~/{WHITE_SPACE}*\{{(?s:.*)/
UNMARKED: PLAIN & ~/{WHITE_SPACE}*{OPEN_REASONING}(?s:.*)/"""
