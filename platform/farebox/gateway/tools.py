"""Tools that a model may call: what its template is told, and what binds its answer."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from farebox.gateway.errors import InvalidParameter, UnsupportedParameter
from farebox.gateway.messages import FunctionTool, NamedTool, ToolMessage
from farebox.gateway.requests import ChatCompletionRequest
from farebox_engine.answer_format import CLOSE_CALL, OPEN_CALL, AnswerFormat
from farebox_engine.grammar import JSON_WHITE_SPACE, GrammarSpec

_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def offered_tools(request: ChatCompletionRequest, style: AnswerFormat) -> list[object] | None:
    """The tools as chat templates read them; None where none may be called.

    Raises UnsupportedParameter where the model's template knows no tools, InvalidParameter for a
    choice that names no tool or is made without any.
    """
    if style.calls is None and (request.tools or any(isinstance(m, ToolMessage) for m in request.messages)):
        raise UnsupportedParameter("tools", " The chat template of this model knows no tools.")
    if isinstance(request.tool_choice, NamedTool):
        name = request.tool_choice.function.name
        if name not in {tool.function.name for tool in request.tools or ()}:
            raise InvalidParameter(
                f"`tool_choice` names `{name}`, which is not among `tools`.", "tool_choice"
            )
    elif not request.tools and request.tool_choice not in (None, "none"):
        raise InvalidParameter("`tool_choice` goes with `tools` only.", "tool_choice")
    if not request.tools or request.tool_choice == "none":
        return None
    return [_described(tool) for tool in request.tools]


def call_grammar(request: ChatCompletionRequest, style: AnswerFormat) -> GrammarSpec | None:
    """What the answer must be so that `tool_choice` and `strict` hold; None where any text may come."""
    tools, choice = request.tools or [], request.tool_choice
    if not tools or choice == "none":
        return None
    if isinstance(choice, NamedTool):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
    elif choice != "required":
        return _strict_grammar(tools, style)
    once = isinstance(choice, NamedTool) or request.parallel_tool_calls is False
    if style.calls == "llama3":
        start = "start: call" if once else 'start: call ("; " call)*'
        return _lark(start, _any_call(tools, "parameters"))
    start = "start: marked" if once else 'start: marked ("\\n" marked)*'
    return _lark(f"{start}\nmarked: {_quoted(OPEN_CALL)} {_MARKED}", _any_call(tools, "arguments"))


def _strict_grammar(tools: Sequence[FunctionTool], style: AnswerFormat) -> GrammarSpec | None:
    """Any text, but what begins like a call is one whose arguments are right."""
    if not any(tool.function.strict for tool in tools):
        return None
    if style.calls != "hermes":
        raise UnsupportedParameter("tools", " On this model `strict` needs `tool_choice: required`.")
    start = f"start: (opened {_MARKED})* rest\nopened[lazy]: TEXT {_quoted(OPEN_CALL)}\nrest: TEXT"
    return _lark(f"{start}\nTEXT: /(.|\\n)*/", _any_call(tools, "arguments"))


def _lark(rules: str, call: dict[str, Any]) -> GrammarSpec:
    return GrammarSpec("lark", f"{rules}\ncall: %json {msgspec.json.encode(call).decode()}", "tools")


def _any_call(tools: Sequence[FunctionTool], key: str) -> dict[str, Any]:
    """A JSON schema of a call of any of the tools, with its arguments under `key`."""
    return {
        "x-guidance": {"whitespace_pattern": JSON_WHITE_SPACE},
        "anyOf": [
            {
                "type": "object",
                "properties": {"name": {"const": tool.function.name}, key: _parameters(tool)},
                "required": ["name", key],
                "additionalProperties": False,
            }
            for tool in tools
        ],
    }


def _described(tool: FunctionTool) -> dict[str, Any]:
    function = tool.function
    return {
        "type": "function",
        "function": {
            "name": function.name,
            "description": function.description or "",
            "parameters": _parameters(tool),
        },
    }


def _parameters(tool: FunctionTool) -> dict[str, Any]:
    if not isinstance(tool.function.parameters, Raw):
        return _ANY_OBJECT
    try:
        return msgspec.json.decode(tool.function.parameters, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise InvalidParameter(
            "The `parameters` of a tool must be a JSON schema: an object.", "tools"
        ) from None


def _quoted(text: str) -> str:
    return f'"{text}"'


_MARKED = f'"\\n" call "\\n{CLOSE_CALL}"'
