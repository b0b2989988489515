"""Messages and tools of a conversation, in OpenAI's shapes."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from farebox.gateway.errors import InvalidParameter

MAX_TOOLS = 128

Text = str | None
Flag = bool | None
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class TextPart(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """A piece of text; the pieces of a message are joined by line breaks."""

    text: str


Content = str | Annotated[list[TextPart], Meta(min_length=1)]


class SystemMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="system"):
    content: Content
    name: Text = None


class DeveloperMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="developer"):
    """The same as a system message."""

    content: Content
    name: Text = None


class UserMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="user"):
    content: Content
    name: Text = None


class CalledFunction(Struct, frozen=True, forbid_unknown_fields=True):
    """What an earlier answer called; `arguments` is the JSON text of an object."""

    name: FunctionName
    arguments: str


class EarlierCall(Struct, frozen=True, forbid_unknown_fields=True):
    """A call in an earlier answer."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class AssistantMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="assistant"):
    """An earlier answer. What clients send back of one beside text and calls must be empty."""

    content: Content | None = None
    name: Text = None
    tool_calls: list[EarlierCall] | None = None
    reasoning_content: Text = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Meta(max_length=0)] | None = None


class ToolMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="tool"):
    """What a call came to."""

    content: Content
    tool_call_id: str
    name: Text = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class FunctionDefinition(Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may call. `parameters` is a JSON schema of its arguments."""

    name: FunctionName
    description: Text = None
    parameters: Raw | UnsetType = UNSET
    strict: Flag = None


class FunctionTool(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="function"):
    function: FunctionDefinition


class NamedFunction(Struct, frozen=True, forbid_unknown_fields=True):
    name: FunctionName


class NamedTool(Struct, frozen=True, forbid_unknown_fields=True):
    """The one tool to call."""

    function: NamedFunction
    type: Literal["function"] = "function"


ToolChoice = Literal["none", "auto", "required"] | NamedTool


def plain_message(message: Message) -> dict[str, object]:
    """A message as chat templates read it: arguments of calls are objects. Raises InvalidParameter."""
    role = str(message.__struct_config__.tag)
    plain: dict[str, object] = {"role": "system" if role == "developer" else role}
    if message.content is not None:
        plain["content"] = _joined(message.content)
    if message.name is not None:
        plain["name"] = message.name
    if isinstance(message, ToolMessage):
        plain["tool_call_id"] = message.tool_call_id
    elif isinstance(message, AssistantMessage):
        if message.tool_calls:
            plain["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
        elif message.content is None:
            raise InvalidParameter("An assistant's message needs content or calls of tools.", "messages")
        if message.reasoning_content:
            plain["reasoning_content"] = message.reasoning_content
    return plain


def _joined(content: Content) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _plain_call(call: EarlierCall) -> dict[str, object]:
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise InvalidParameter(
            "The `arguments` of a call must be the JSON text of an object.", "messages"
        ) from None
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }
