"""What binds an answer to calls of tools that are right, in the form that the model writes them in."""

from collections.abc import Sequence
from typing import Any

import msgspec

from farebox.gateway.completions.jobs.tools import tool_parameters
from farebox.gateway.completions.messages import FunctionTool, NamedTool
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


def call_grammar(request: ChatCompletionRequest, style: AnswerFormat) -> GrammarSpec | None:
    """What the answer must be so that `tool_choice` and `strict` hold; None where any text may come."""
    tools, choice = request.tools or [], request.tool_choice
    if not tools or choice == "none":
        return None
    if isinstance(choice, NamedTool):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
    once = isinstance(choice, NamedTool) or request.parallel_tool_calls is False
    bound = isinstance(choice, NamedTool) or choice == "required"
    if style.calls == "qwen3_coder" and (bound or any(tool.function.strict for tool in tools)):
        raise InvalidParameter(
            "This model writes calls that are no JSON, so that they cannot be enforced; let `tool_choice` be "
            "`auto` or `none`, and leave out `strict`.",
            "tool_choice" if bound else "tools",
        )
    if bound:
        start = _calls(style, once)
    elif not any(tool.function.strict for tool in tools):
        return None
    elif style.calls == "llama3":
        start = _free_or_called(style, once)
    else:
        start = f"(opened_call {_CALL})* TEXT"
    return _spec(start, tools, style)


def _calls(style: AnswerFormat, once: bool) -> str:
    """Calls and nothing beside them."""
    if style.calls == "llama3":
        return "call" if once else 'call ("; " call)*'
    marked = f'"{OPEN_CALL}" {_CALL}'
    return marked if once else f'{marked} ("\\n" {marked})*'


def _free_or_called(style: AnswerFormat, once: bool) -> str:
    """Any text, but one that begins like a call of Llama's, with a brace, is nothing but calls."""
    if style.reasons:
        return f"thought* (SPACE? {_calls(style, once)} | UNMARKED)"
    return f"SPACE? {_calls(style, once)} | PLAIN"


def _spec(start: str, tools: Sequence[FunctionTool], style: AnswerFormat) -> GrammarSpec:
    call = _any_call(tools, "parameters" if style.calls == "llama3" else "arguments")
    rules = f"start: {start}\n{_RULES}\ncall: %json {msgspec.json.encode(call).decode()}"
    return GrammarSpec("lark", rules, "tools")


def _any_call(tools: Sequence[FunctionTool], key: str) -> dict[str, Any]:
    """A JSON schema of a call of any of the tools, with its arguments under `key`."""
    return {
        "x-guidance": {"whitespace_pattern": JSON_WHITE_SPACE},
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": tool.function.name}, key: tool_parameters(tool)},
                "required": ["name", key],
                "additionalProperties": False,
            }
            for tool in tools
        ],
    }


_CALL = f'"\\n" call "\\n{CLOSE_CALL}"'
_RULES = rf"""
opened_call[lazy]: TEXT "{OPEN_CALL}"
thought[lazy]: /{WHITE_SPACE}*{OPEN_REASONING}/ TEXT "{CLOSE_REASONING}"
TEXT: /(?s:.*)/
SPACE: /{WHITE_SPACE}+/
PLAIN: TEXT & ~/{WHITE_SPACE}*\{{(?s:.*)/
UNMARKED: PLAIN & ~/{WHITE_SPACE}*{OPEN_REASONING}(?s:.*)/"""
