"""What chat completions and completions say of themselves in the API reference, with examples."""

from farebox.core.openapi.documentation import Content, Documentation, Reply
from farebox.gateway.completions.jobs.bounds import MAX_ANSWERS
from farebox.gateway.completions.requests import (
    IGNORED,
    INERT,
    MAX_PROMPTS,
    ChatCompletionRequest,
    CompletionRequest,
    Sampling,
)
from farebox.gateway.completions.responses import (
    AssistantAnswer,
    ChatChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChoiceDelta,
    ChunkChoice,
    Completion,
    CompletionChoice,
    CompletionUsage,
    PromptTokensDetails,
)
from farebox.gateway.documentation import ANSWER_HEADERS, INFERENCE_ERRORS
from farebox.gateway.errors import (
    ContextLengthExceeded,
    GrammarStuck,
    InvalidParameter,
    TooMuchWork,
    UnsupportedParameter,
)

EVENT_STREAM = "text/event-stream"

_MODEL = "farebox-demo"
_CREATED = 1764086400
_FINGERPRINT = "fp_8c1f0f6a2d4e"
_CHAT_ID = "chatcmpl-0199d3f04a7c7b52a6e1c4d2f8b09a31"
_COMPLETION_ID = "cmpl-0199d3f04a7c7b52a6e1c4d2f8b09a31"
_USAGE = CompletionUsage(
    prompt_tokens=23, completion_tokens=9, total_tokens=32, prompt_tokens_details=PromptTokensDetails(16)
)


def _chunk(*choices: ChunkChoice, usage: CompletionUsage | None = None) -> ChatCompletionChunk:
    return ChatCompletionChunk(_CHAT_ID, _CREATED, _MODEL, list(choices), _FINGERPRINT, usage)


def _event(*choices: CompletionChoice, usage: CompletionUsage | None = None) -> Completion:
    return Completion(_COMPLETION_ID, _CREATED, _MODEL, list(choices), _FINGERPRINT, usage)


_SAMPLING_FIELDS = {
    "model": "The id of a model, as `GET /v1/models` lists it.",
    "stream": "Send the answer piece by piece, as server-sent events.",
    "stream_options": "With `stream` only.",
    "n": "How many answers to give; the prompt is billed once.",
    "max_tokens": "At most so many tokens per answer; by default what the context has room for, and 4,096 "
    "in a chat (the operator may have set another number), 16 in a text; less where money is short.",
    "temperature": "0 always takes the likeliest token; above 1 flattens the distribution.",
    "top_p": "Sample among the likeliest tokens that make up this share of the probability.",
    "top_k": "Sample among this many likeliest tokens; 0 or -1: all. Beyond OpenAI's API.",
    "min_p": "Leave out tokens less likely than this share of the likeliest. Beyond OpenAI's API.",
    "presence_penalty": "Taken from the logit of every token that was generated before.",
    "frequency_penalty": "Taken from a token's logit for every time that it was generated before.",
    "repetition_penalty": "Above 1, what prompt and answer hold becomes less likely. Beyond OpenAI's API.",
    "logit_bias": "Token ids, and what to add to their logits.",
    "seed": "The same seed, request and model give the same answer; the j-th of `n` uses `seed + j`.",
    "stop": "Texts that end the answer; they are not part of it.",
    "min_tokens": "Nothing ends the answer before so many tokens. Beyond OpenAI's API.",
    "ignore_eos": "The model's end token does not end the answer. Beyond OpenAI's API.",
    "bad_words": "Words or phrases that the answer must not hold, in the tokens that the model would write "
    "them with, after a space or not. Beyond OpenAI's API.",
    "priority": "1: answer when no usual request (0) has need of the machine, which may be long. Spelled as "
    "in vLLM; beyond OpenAI's API.",
    "truncate_prompt_tokens": "Of a longer prompt, only the last so many tokens. Beyond OpenAI's API.",
    "structured_outputs": "What the whole answer must be; exactly one of its fields. Beyond OpenAI's API.",
} | dict.fromkeys(IGNORED, "Accepted and ignored: it does not change the result.")
_REFUSED = "Not supported: refused unless it asks for nothing."


def _fields(kind: type[Sampling], **own: str) -> dict[str, str]:
    """What the fields of a request mean; those that are refused say so."""
    known = _SAMPLING_FIELDS | dict.fromkeys(INERT, _REFUSED) | own
    return {name: known[name] for name in kind.__struct_fields__ if name in known}


_ERRORS = (
    *INFERENCE_ERRORS,
    InvalidParameter("`stream_options` goes with `stream: true` only.", "stream_options"),
    TooMuchWork(
        "2 answers of up to 4096 tokens with 31 log-probabilities each are 253952, of at most 250000 in one"
        " answer. Lower `max_tokens`, `n` or the log-probabilities, or stream.",
        "logprobs",
    ),
    GrammarStuck(
        "The grammar became too ambiguous in mid-answer: too many rules could go on at once.",
        "structured_outputs",
    ),
)

CHAT_COMPLETION = Documentation(
    body=ChatCompletionRequest,
    fields=_fields(
        ChatCompletionRequest,
        messages="The conversation so far, oldest first.",
        max_completion_tokens="The newer name of `max_tokens`; send one of them.",
        logprobs="Tell the log probability of each token of the answer.",
        response_format="Bind the answer to JSON, or to a JSON schema.",
        reasoning_effort="How much to think. `none` switches a template's thinking off, a level switches it "
        "on. Templates know three levels: `minimal` counts as `low`, `xhigh` as `high`. A model whose "
        "template reads none of this is not changed by it.",
        thinking="Switches a template's thinking on or off, as at DeepSeek, GLM and Moonshot. Its other "
        "fields are ignored. Beyond OpenAI's API.",
        enable_thinking="The same, as at Qwen and SiliconFlow. Beyond OpenAI's API.",
        chat_template_kwargs="Variables for the model's chat template, 16 scalars at most. "
        "Beyond OpenAI's API.",
        tools="Functions that the model may call, where its chat template knows tools.",
        tool_choice="Whether to call: `none`, `auto` (the default), `required`, or one by name.",
        parallel_tool_calls="False: at most one call in an answer.",
        top_logprobs="Tell those of so many likeliest tokens at each place, too; with `logprobs` only.",
    ),
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
        "an object of a schema": {
            "model": _MODEL,
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "capital",
                    "schema": {
                        "type": "object",
                        "properties": {"capital": {"type": "string", "maxLength": 40}},
                        "required": ["capital"],
                        "additionalProperties": False,
                    },
                },
            },
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
            headers=ANSWER_HEADERS,
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
    errors=(
        *_ERRORS,
        UnsupportedParameter("audio"),
        ContextLengthExceeded(2048, 1900, 400, "max_completion_tokens"),
    ),
    security="apiKey",
)

COMPLETION = Documentation(
    body=CompletionRequest,
    fields=_fields(
        CompletionRequest,
        prompt=f"A text, token ids, or up to {MAX_PROMPTS} prompts of either kind. Prompts times `n` are "
        f"{MAX_ANSWERS} at most.",
        logprobs="Tell the log probabilities of so many likeliest tokens at each place.",
        echo="Put the prompt before the answer; with `max_tokens: 0` only the prompt.",
        best_of="Only the value of `n`.",
        num_beams="Search with so many beams; encoder-decoders only. Beyond OpenAI's API.",
        length_penalty="Divides a beam's log probability by this power of its length. Beyond OpenAI's API.",
    ),
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
            headers=ANSWER_HEADERS,
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
    errors=(*_ERRORS, UnsupportedParameter("suffix"), ContextLengthExceeded(2048, 1900, 400, "max_tokens")),
    security="apiKey",
)
