"""What `/v1` says of itself in the API reference, with examples; see `core.documentation`."""

from decimal import Decimal

from farebox.core.documentation import (
    BODY_ERRORS,
    SERVER_ERRORS,
    Content,
    Documentation,
    Reply,
)
from farebox.core.errors import FareboxError
from farebox.gateway.errors import (
    ContextLengthExceeded,
    GenerationFailed,
    InvalidParameter,
    ShuttingDown,
    UnsupportedParameter,
)
from farebox.gateway.responses import (
    AssistantAnswer,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceDelta,
    ChunkChoice,
    Completion,
    CompletionChoice,
    CompletionUsage,
    Model,
    ModelList,
    PromptTokensDetails,
)
from farebox.keys.errors import InvalidApiKey
from farebox.metering.errors import ModelNotFound, QuotaExceeded, RateLimitExceeded

EVENT_STREAM = "text/event-stream"

_MODEL = "farebox-demo"
_CREATED = 1764086400
_FINGERPRINT = "fp_8c1f0f6a2d4e"
_CHAT_ID = "chatcmpl-0199d3f04a7c7b52a6e1c4d2f8b09a31"
_COMPLETION_ID = "cmpl-0199d3f04a7c7b52a6e1c4d2f8b09a31"
_USAGE = CompletionUsage(
    prompt_tokens=23, completion_tokens=9, total_tokens=32, prompt_tokens_details=PromptTokensDetails(16)
)
_RATE_LIMITS = {
    "x-ratelimit-limit-requests": "600",
    "x-ratelimit-limit-tokens": "100000",
    "x-ratelimit-remaining-requests": "599",
    "x-ratelimit-remaining-tokens": "98953",
    "x-ratelimit-reset-requests": "100ms",
    "x-ratelimit-reset-tokens": "628ms",
}
_ANSWER_HEADERS = ("openai-processing-ms", *_RATE_LIMITS)
_SAMPLE_MODEL = Model(_MODEL, _CREATED, "farebox")


def _limited(error: FareboxError) -> FareboxError:
    """An admission's refusal, with the headers that say what is left."""
    error.headers |= _RATE_LIMITS
    return error


def _chunk(*choices: ChunkChoice, usage: CompletionUsage | None = None) -> ChatCompletionChunk:
    return ChatCompletionChunk(_CHAT_ID, _CREATED, _MODEL, list(choices), _FINGERPRINT, usage)


def _event(*choices: CompletionChoice, usage: CompletionUsage | None = None) -> Completion:
    return Completion(_COMPLETION_ID, _CREATED, _MODEL, list(choices), _FINGERPRINT, usage)


_KEY_ERRORS = (InvalidApiKey(), *SERVER_ERRORS)
_INFERENCE_ERRORS = (
    *BODY_ERRORS,
    InvalidParameter("`stream_options` goes with `stream: true` only.", "stream_options"),
    UnsupportedParameter("tools"),
    ContextLengthExceeded(2048, 1900, 400, "messages"),
    InvalidApiKey(),
    _limited(QuotaExceeded("organization", "balance", Decimal("0.0004"))),
    ModelNotFound("gpt-7"),
    _limited(RateLimitExceeded("project", "requests_per_minute", Decimal(600), 1.2)),
    GenerationFailed(),
    *SERVER_ERRORS,
    ShuttingDown(),
)

CHAT_COMPLETION = Documentation(
    request={
        "a question": {
            "model": _MODEL,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
        },
        "a conversation, streamed": {
            "model": _MODEL,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens": 200,
            "temperature": 0.7,
            "messages": [
                {"role": "system", "content": "You answer in one sentence."},
                {"role": "user", "content": "What is the capital of France?"},
                {"role": "assistant", "content": "Paris is the capital of France."},
                {"role": "user", "content": "And of Italy?"},
            ],
        },
        "reproducible": {
            "model": _MODEL,
            "messages": [{"role": "user", "content": "Tell me a story about a cat."}],
            "seed": 7,
            "n": 2,
            "stop": ["The end"],
            "logprobs": True,
            "top_logprobs": 3,
        },
    },
    replies=[
        Reply(
            description=(
                "The answer: whole, or with `stream: true` as server-sent events `data: {…}`, each one "
                "chunk, ended by `data: [DONE]`. A stream that fails half-way ends with one "
                '`data: {"error": …}` instead.'
            ),
            headers=_ANSWER_HEADERS,
            contents=[
                Content(
                    kind=ChatCompletion,
                    examples={
                        "whole": ChatCompletion(
                            id=_CHAT_ID,
                            created=_CREATED,
                            model=_MODEL,
                            choices=[
                                ChatChoice(
                                    0, AssistantAnswer("Paris is the capital of France."), None, "stop"
                                )
                            ],
                            usage=_USAGE,
                            system_fingerprint=_FINGERPRINT,
                        )
                    },
                ),
                Content(
                    kind=ChatCompletionChunk,
                    media_type=EVENT_STREAM,
                    examples={
                        "the first event": _chunk(
                            ChunkChoice(0, ChoiceDelta(content="", role="assistant", refusal=None))
                        ),
                        "text": _chunk(ChunkChoice(0, ChoiceDelta(content="Rome is"))),
                        "the end of a choice": _chunk(ChunkChoice(0, ChoiceDelta(), finish_reason="stop")),
                        "usage, if asked for": _chunk(usage=_USAGE),
                    },
                ),
            ],
        )
    ],
    errors=_INFERENCE_ERRORS,
    security="apiKey",
)

COMPLETION = Documentation(
    request={
        "text": {"model": _MODEL, "prompt": "Once upon a time", "max_tokens": 60},
        "streamed": {
            "model": _MODEL,
            "prompt": "Once upon a time",
            "max_tokens": 60,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "several texts": {"model": _MODEL, "prompt": ["One, two,", "Red, green,"], "max_tokens": 8},
        "token ids": {"model": _MODEL, "prompt": [812, 17, 305], "max_tokens": 8, "temperature": 0},
    },
    replies=[
        Reply(
            description=(
                "The continuation: whole, or with `stream: true` as server-sent events `data: {…}`, "
                "ended by `data: [DONE]`."
            ),
            headers=_ANSWER_HEADERS,
            contents=[
                Content(
                    kind=Completion,
                    examples={
                        "whole": _event(
                            CompletionChoice(0, ", there was a cat who liked to read.", None, "stop"),
                            usage=_USAGE,
                        )
                    },
                ),
                Content(
                    kind=Completion,
                    media_type=EVENT_STREAM,
                    examples={
                        "text": _event(CompletionChoice(0, ", there was")),
                        "the end of a choice": _event(CompletionChoice(0, "", finish_reason="length")),
                        "usage, if asked for": _event(usage=_USAGE),
                    },
                ),
            ],
        )
    ],
    errors=_INFERENCE_ERRORS,
    security="apiKey",
)

MODELS = Documentation(
    replies=[
        Reply(
            description="The models that this key may call.",
            contents=[Content(kind=ModelList, examples={"models": ModelList([_SAMPLE_MODEL])})],
        )
    ],
    errors=_KEY_ERRORS,
    security="apiKey",
)

MODEL = Documentation(
    values={"model_id": _MODEL},
    replies=[
        Reply(description="The model.", contents=[Content(kind=Model, examples={"model": _SAMPLE_MODEL})])
    ],
    errors=(*_KEY_ERRORS, ModelNotFound("gpt-7")),
    security="apiKey",
)
