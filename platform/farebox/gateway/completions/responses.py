"""Response bodies, in OpenAI's shapes."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class PromptTokensDetails(Struct, frozen=True):
    cached_tokens: int
    audio_tokens: int = 0


class CompletionTokensDetails(Struct, frozen=True):
    """Of the `completion_tokens`, the `accepted_prediction_tokens` were guessed from the text before.

    The `reasoning_tokens` are those of the text in `reasoning_content` and of the marks around it.
    The `rejected_prediction_tokens` were guessed wrongly: they are not among them, and not billed.
    """

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class CompletionUsage(Struct, frozen=True):
    """What the request is billed for; `cached_tokens` of the prompt at their own price."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class TopLogprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(Struct, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class FunctionCall(Struct, frozen=True):
    """`arguments` is the JSON text of an object."""

    name: str
    arguments: str


class ToolCallAnswer(Struct, frozen=True):
    """A call that the model asks for; its result comes back in a message of the role `tool`."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class AssistantAnswer(Struct, frozen=True):
    """`reasoning_content` is what the model wrote for itself, where it marks that."""

    content: str | None
    tool_calls: list[ToolCallAnswer] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class ChatChoice(Struct, frozen=True):
    index: int
    message: AssistantAnswer
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(Struct, frozen=True):
    """The whole answer of `POST /v1/chat/completions`."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    system_fingerprint: str
    object: Literal["chat.completion"] = "chat.completion"
    service_tier: Literal["default"] = "default"


class ToolCallDelta(Struct, frozen=True):
    """A whole call: `index` counts the calls of one answer."""

    index: int
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ChoiceDelta(Struct, frozen=True, omit_defaults=True):
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET
    role: Literal["assistant"] | UnsetType = UNSET
    refusal: None | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    index: int
    delta: ChoiceDelta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(Struct, frozen=True):
    """An event of a streamed chat completion. `usage` is there when it was asked for, set in the last.

    `receipt` is in the last event alone.
    """

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    system_fingerprint: str
    usage: CompletionUsage | None | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    service_tier: Literal["default"] = "default"
    receipt: str | UnsetType = UNSET


class LegacyLogprobs(Struct, frozen=True):
    """By token. With `echo` the prompt's come first, null for its first token, which nothing precedes."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Struct, frozen=True):
    index: int
    text: str
    logprobs: LegacyLogprobs | None = None
    finish_reason: Literal["stop", "length", "content_filter"] | None = None


class Completion(Struct, frozen=True):
    """The answer of `POST /v1/completions`, whole or one event of it. `receipt` is in the last one."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    system_fingerprint: str
    usage: CompletionUsage | None | UnsetType = UNSET
    object: Literal["text_completion"] = "text_completion"
    receipt: str | UnsetType = UNSET
