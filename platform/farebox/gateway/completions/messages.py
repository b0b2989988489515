"""Messages and tools of a conversation, in OpenAI's shapes."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from farebox.gateway.errors import InvalidParameter
from farebox.gateway.fields import Undecoded

MAX_TOOLS = 128

Text = str | None
Flag = bool | None
FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """A piece of text; the pieces of a message are joined by line breaks. Its other fields are ignored."""

    text: str


class RefusalPart(Struct, frozen=True, tag_field="type", tag="refusal"):
    """A piece of an earlier answer in which a model refuses: to a chat template, text like any other."""

    refusal: str

    @property
    def text(self) -> str:
        return self.refusal


Content = str | Annotated[list[TextPart], Meta(min_length=1)]
AnswerContent = str | Annotated[list[TextPart | RefusalPart], Meta(min_length=1)]


class SystemMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="system"):
    """`cache_control`, Anthropic's mark of what to cache, is ignored in every message."""

    content: Content
    name: Text = None
    cache_control: Undecoded = UNSET


class DeveloperMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="developer"):
    """The same as a system message."""

    content: Content
    name: Text = None
    cache_control: Undecoded = UNSET


class UserMessage(Struct, frozen=True, forbid_unknown_fields=True, tag_field="role", tag="user"):
    content: Content
    name: Text = None
    cache_control: Undecoded = UNSET


class CalledFunction(Struct, frozen=True):
    """What an earlier answer called; `arguments` is the JSON text of an object. `parsed_arguments` and
    other fields that clients add are ignored."""

    name: FunctionName
    arguments: str


class EarlierCall(Struct, frozen=True):
    """A call in an earlier answer; `index`, which streams have, and other fields are ignored."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class AssistantMessage(Struct, frozen=True, tag_field="role", tag="assistant"):
    """An earlier answer, as clients and other servers give it. What it has beside these fields (`parsed`,
    `annotations`, `provider_specific_fields`, …) is ignored. Sound and the calls of before `tools` would
    change the result, and are refused."""

    content: AnswerContent | None = None
    name: Text = None
    tool_calls: list[EarlierCall] | None = None
    reasoning_content: Text = None
    reasoning: Text = None
    refusal: Text = None
    audio: None = None
    function_call: None = None


class ToolMessage(Struct, frozen=True, tag_field="role", tag="tool"):
    """What a call came to. Its other fields are ignored."""

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
    cache_control: Undecoded = UNSET


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
        plain |= _answered(message)
    return plain


def _answered(message: AssistantMessage) -> dict[str, object]:
    """What an earlier answer has beside its text."""
    plain: dict[str, object] = {}
    reasoning = message.reasoning_content or message.reasoning
    if message.tool_calls:
        plain["tool_calls"] = [_plain_call(call) for call in message.tool_calls]
    elif message.content is None:
        if message.refusal is None and not reasoning:
            raise InvalidParameter("An assistant's message needs content or calls of tools.", "messages")
        plain["content"] = message.refusal or ""  # "": cut while it reasoned
    if reasoning:
        plain["reasoning_content"] = reasoning
    return plain


def _joined(content: str | Sequence[TextPart | RefusalPart]) -> str:
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
