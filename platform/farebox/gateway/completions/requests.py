"""Request bodies, in OpenAI's shapes. Every number is bounded and every unknown field refused.

Fields that OpenAI defines fall into three kinds, which docs/api.md lists: acted on; accepted and
ignored, because they cannot change the result (`IGNORED` here); and refused unless they hold a
value that asks for nothing (`INERT` here).
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from farebox.core.openapi.documentation import shown_as
from farebox.gateway.completions.messages import MAX_TOOLS, Flag, FunctionTool, Message, Text, ToolChoice
from farebox.gateway.errors import UnsupportedParameter
from farebox.gateway.fields import ModelName, TokenId, Undecoded

MAX_CHOICES = 16
MAX_PROMPTS = 64
MAX_BAD_WORDS = 64
MAX_BIASES = 1024
# What asks for nothing is shorter, however it is indented.
MAX_INERT_BYTES = 256

Count = Annotated[int, Meta(ge=0, le=2**53)] | None
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None
Penalty = Annotated[float, Meta(ge=-2, le=2)] | None
Temperature = Annotated[float, Meta(ge=0, le=2)] | None
Share = Annotated[float, Meta(ge=0, le=1)] | None
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None
Bias = Annotated[dict[str, Annotated[float, Meta(ge=-100, le=100)]], Meta(max_length=MAX_BIASES)] | None
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
Stop = StopText | Annotated[list[StopText], Meta(max_length=16)] | None
BadWord = Annotated[str, Meta(min_length=1, max_length=256)]
TemplateValue = bool | int | float | Annotated[str, Meta(max_length=256)] | None
# A list has no length of its own: it may be the token ids of one prompt. What prompts there may be is judged
# with `n`, and shown here.
_IDS_SHOWN = {
    "type": "array",
    "minItems": 1,
    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
}
_PROMPTS_SHOWN = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_PROMPTS,
    "items": {"anyOf": [{"type": "string"}, _IDS_SHOWN]},
}
Prompt = Annotated[
    str | Annotated[list[str | TokenId | list[TokenId]], Meta(min_length=1)],
    Meta(extra_json_schema=shown_as({"anyOf": [{"type": "string"}, _IDS_SHOWN, _PROMPTS_SHOWN]})),
]
TemplateVariables = Annotated[dict[str, TemplateValue], Meta(max_length=16)]


class StreamOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """How to stream. `include_obfuscation` and `continuous_usage_stats` are accepted and ignored."""

    include_usage: Flag = None
    include_obfuscation: Flag = None
    continuous_usage_stats: Flag = None


class StructuredOutputs(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Farebox's addition, spelled as in vLLM: what the whole answer must be. Exactly one of these.

    `json` is a JSON schema, `grammar` a Lark grammar.
    """

    json: Raw | UnsetType = UNSET
    regex: Text = None
    choice: Annotated[list[str], Meta(min_length=1, max_length=1000)] | None = None
    grammar: Text = None


class Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both endpoints share. `top_k`, `min_p`, `repetition_penalty`, `min_tokens`, `ignore_eos`,
    `bad_words`, `priority`, `structured_outputs` and `truncate_prompt_tokens` are Farebox's additions.

    `priority` is spelled as in vLLM, where a higher number comes later. No number below 0 is open to
    tenants: nobody goes before another tenant.
    """

    model: Annotated[ModelName, Meta(examples=["farebox-demo"])]
    stream: Flag = None
    stream_options: StreamOptions | None = None
    n: Choices = None
    max_tokens: Count = None
    temperature: Temperature = None
    top_p: Share = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Share = None
    presence_penalty: Penalty = None
    frequency_penalty: Penalty = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    logit_bias: Bias = None
    seed: Seed = None
    stop: Stop = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    ignore_eos: Flag = None
    bad_words: Annotated[list[BadWord], Meta(max_length=MAX_BAD_WORDS)] | None = None
    priority: Annotated[int, Meta(ge=0, le=1)] | None = None
    structured_outputs: StructuredOutputs | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    user: Text = None


class TextFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Any text: asks for nothing."""


class JsonObjectFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class NamedSchema(Struct, frozen=True, forbid_unknown_fields=True):
    """A JSON schema; it is enforced, whether `strict` or not."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    schema: Raw | UnsetType = UNSET
    description: Text = None
    strict: Flag = None


class JsonSchemaFormat(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="json_schema"):
    """JSON that obeys a schema."""

    json_schema: NamedSchema


class Thinking(Struct, frozen=True):
    """Whether to think, as at DeepSeek, GLM and Moonshot. `budget_tokens` and other fields are ignored."""

    type: Literal["enabled", "disabled"]


class ChatCompletionRequest(Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/chat/completions`. `thinking` and `enable_thinking`, Qwen's, are beyond OpenAI's API."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count = None
    logprobs: Flag = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    thinking: Thinking | None = None
    enable_thinking: Flag = None
    chat_template_kwargs: TemplateVariables | None = None

    verbosity: Literal["low", "medium", "high"] | None = None
    metadata: dict[str, str] | None = None
    store: Flag = None
    safety_identifier: Text = None
    prompt_cache_key: Text = None
    prompt_cache_retention: Text = None
    service_tier: Text = None

    tools: Annotated[list[FunctionTool], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: Flag = None

    audio: Undecoded = UNSET
    function_call: Undecoded = UNSET
    functions: Undecoded = UNSET
    modalities: Undecoded = UNSET
    moderation: Undecoded = UNSET
    prediction: Undecoded = UNSET
    prompt_cache_options: Undecoded = UNSET
    web_search_options: Undecoded = UNSET


class CompletionRequest(Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/completions`. A prompt is text, token ids, or a list of either."""

    prompt: Prompt
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    best_of: Choices = None
    echo: Flag = None
    num_beams: Annotated[int, Meta(ge=1, le=16)] | None = None
    length_penalty: Annotated[float, Meta(ge=-10, le=10)] | None = None

    suffix: Undecoded = UNSET


IGNORED = (
    "verbosity",
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
)

INERT: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "function_call": ("none",),
    "functions": ([],),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "prompt_cache_options": (),
    "web_search_options": (),
    "suffix": ("",),
}
_REFUSED_IN_CHAT = tuple(name for name in INERT if name in ChatCompletionRequest.__struct_fields__)
_REFUSED_IN_COMPLETIONS = tuple(name for name in INERT if name in CompletionRequest.__struct_fields__)


def refuse_unsupported(request: Sampling) -> None:
    """Raise UnsupportedParameter for the first field that asks for something Farebox cannot do."""
    chat = isinstance(request, ChatCompletionRequest)
    for name in _REFUSED_IN_CHAT if chat else _REFUSED_IN_COMPLETIONS:
        value = getattr(request, name)
        if isinstance(value, Raw) and not _is_inert(name, value):
            raise UnsupportedParameter(name)


def _is_inert(name: str, value: Raw) -> bool:
    if len(memoryview(value)) > MAX_INERT_BYTES:
        return False
    found = msgspec.json.decode(value)
    return found is None or found in INERT[name]
