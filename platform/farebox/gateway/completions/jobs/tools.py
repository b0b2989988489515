"""Tools that a model may call, as its chat template is told of them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from farebox.gateway.completions.messages import FunctionTool, NamedTool, ToolMessage
from farebox.gateway.completions.requests import ChatCompletionRequest
from farebox.gateway.errors import InvalidParameter, UnsupportedByModel
from farebox.gateway.models.answer_format import AnswerFormat

_ANY_OBJECT: dict[str, Any] = {"type": "object"}


class OfferedTool(msgspec.Struct, frozen=True):
    """A tool that may be called. `parameters` is the JSON schema of its arguments: decoded once, as it may
    have a megabyte."""

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool


def offered_tools(request: ChatCompletionRequest, style: AnswerFormat) -> list[OfferedTool]:
    """The tools that may be called, in the request's order.

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
        return []
    return [_offered(tool) for tool in request.tools]


def described_tools(tools: Sequence[OfferedTool]) -> list[object] | None:
    """The tools as chat templates read them; None where there are none."""
    return [_described(tool) for tool in tools] or None


def _described(tool: OfferedTool) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        },
    }


def _offered(tool: FunctionTool) -> OfferedTool:
    function = tool.function
    return OfferedTool(
        function.name, function.description or "", _parameters(tool), strict=bool(function.strict)
    )


def _parameters(tool: FunctionTool) -> dict[str, Any]:
    if not isinstance(tool.function.parameters, Raw):
        return _ANY_OBJECT
    try:
        schema = msgspec.json.decode(tool.function.parameters, type=dict[str, Any] | bool | None)
    except (msgspec.DecodeError, RecursionError):
        schema = False
    if schema is False:
        raise InvalidParameter("The `parameters` of a tool must be a JSON schema: an object.", "tools")
    return schema if isinstance(schema, dict) else _ANY_OBJECT
