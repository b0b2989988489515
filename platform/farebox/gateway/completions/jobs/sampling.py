"""How the tokens of an answer are to be chosen."""

from functools import lru_cache
from typing import Any, TypeVar

from farebox.gateway.completions.requests import ChatCompletionRequest, CompletionRequest, Sampling
from farebox.gateway.errors import InvalidParameter
from farebox.gateway.models.errors import RequestError
from farebox.gateway.models.generation import GenerationDefaults, SamplingParams

T = TypeVar("T")


def echoes(request: Sampling) -> bool:
    """Whether the answer begins with the prompt."""
    return isinstance(request, CompletionRequest) and bool(request.echo)


def sampling_params(
    request: Sampling,
    max_tokens: int,
    defaults: GenerationDefaults,
    bad_words: tuple[tuple[int, ...], ...],
) -> SamplingParams:
    """What the request names, else what the model's author would have. Raises InvalidParameter."""
    echo = echoes(request)
    fields: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": _or(request.temperature, defaults.temperature),
        "top_p": _or(request.top_p, defaults.top_p),
        "top_k": max(_or(request.top_k, defaults.top_k), 0),
        "min_p": _or(request.min_p, defaults.min_p),
        "seed": request.seed,
        "presence_penalty": _or(request.presence_penalty, 0.0),
        "frequency_penalty": _or(request.frequency_penalty, 0.0),
        "repetition_penalty": _or(request.repetition_penalty, defaults.repetition_penalty),
        "stop": _stops(request),
        "logprobs": _logprobs(request),
        "min_tokens": _or(request.min_tokens, 0),
        "ignore_eos": bool(request.ignore_eos),
        "bad_words": bad_words,
        "echo": echo,
    }
    if request.logit_bias:
        fields["logit_bias"] = _logit_bias(request.logit_bias)
    if echo:
        fields["prompt_logprobs"] = fields["logprobs"]
    if isinstance(request, CompletionRequest):
        fields |= {"num_beams": request.num_beams, "length_penalty": request.length_penalty}
    try:
        return (_known_params if _is_common(request) else SamplingParams)(**fields)
    except RequestError as error:
        raise InvalidParameter(str(error), error.param) from None


# Most requests ask for what others did. Parameters are immutable, and checking them costs 5 µs.
_known_params = lru_cache(maxsize=1024)(SamplingParams)


def _is_common(request: Sampling) -> bool:
    """Whether the parameters are numbers: texts and lists of tenants' would stay in memory with them."""
    return not (request.logit_bias or request.stop or request.bad_words)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _stops(request: Sampling) -> tuple[str, ...]:
    stop = request.stop or ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _logprobs(request: Sampling) -> int | None:
    if isinstance(request, ChatCompletionRequest):
        return (request.top_logprobs or 0) if request.logprobs else None
    return request.logprobs if isinstance(request, CompletionRequest) else None


def _logit_bias(bias: dict[str, float]) -> dict[int, float]:
    try:
        return {int(token): value for token, value in bias.items() if _is_token_id(token)}
    except ValueError:
        raise InvalidParameter("The keys of `logit_bias` are token ids.", "logit_bias") from None


def _is_token_id(text: str) -> bool:
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ValueError(text)
    return True
