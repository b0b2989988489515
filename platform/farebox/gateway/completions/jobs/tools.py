"""Tools that a model may call, as its chat template is told of them."""

from typing import Any

import msgspec
from msgspec import Raw

from farebox.gateway.completions.messages import FunctionTool, NamedTool, ToolMessage
from farebox.gateway.completions.requests import ChatCompletionRequest
from farebox.gateway.errors import InvalidParameter, UnsupportedByModel
from farebox.gateway.models.answer_format import AnswerFormat

_ANY_OBJECT: dict[str, Any] = {"type": "object"}


def offered_tools(request: ChatCompletionRequest, style: AnswerFormat) -> list[object] | None:
    """The tools as chat templates read them; None where none may be called.

    Raises UnsupportedByModel where the model's template knows no tools, InvalidParameter for a
    choice that names no tool or is made without any.
    """
    offers = bool(request.tools) and request.tool_choice != "none"
    if style.calls is None and (offers or any(isinstance(m, ToolMessage) for m in request.messages)):
        raise UnsupportedByModel("tools", request.model, "its chat template knows no tools that can be read.")
    if isinstance(request.tool_choice, NamedTool):
        name = request.tool_choice.function.name
        if name not in {tool.function.name for tool in request.tools or ()}:
            raise InvalidParameter(
                f"`tool_choice` names `{name}`, which is not among `tools`.", "tool_choice"
            )
    elif not request.tools and request.tool_choice not in (None, "none"):
        raise InvalidParameter("`tool_choice` goes with `tools` only.", "tool_choice")
    if not request.tools or not offers:
        return None
    return [_described(tool) for tool in request.tools]


def _described(tool: FunctionTool) -> dict[str, Any]:
    function = tool.function
    return {
        "type": "function",
        "function": {
            "name": function.name,
            "description": function.description or "",
            "parameters": tool_parameters(tool),
        },
    }


def tool_parameters(tool: FunctionTool) -> dict[str, Any]:
    """The JSON schema of a tool's arguments. Raises InvalidParameter where it is none of an object."""
    if not isinstance(tool.function.parameters, Raw):
        return _ANY_OBJECT
    try:
        schema = msgspec.json.decode(tool.function.parameters, type=dict[str, Any] | bool | None)
    except (msgspec.DecodeError, RecursionError):
        schema = False
    if schema is False:
        raise InvalidParameter("The `parameters` of a tool must be a JSON schema: an object.", "tools")
    return schema if isinstance(schema, dict) else _ANY_OBJECT
