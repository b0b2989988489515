"""From a request body to what the engine and the meter are asked for."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from farebox.gateway.completions.messages import plain_message
from farebox.gateway.completions.requests import (
    MAX_CHOICES,
    MAX_PROMPTS,
    ChatCompletionRequest,
    CompletionRequest,
    Sampling,
    refuse_unsupported,
)
from farebox.gateway.completions.tools import offered_tools
from farebox.gateway.errors import ContextLengthExceeded, InvalidParameter, UnsupportedParameter
from farebox.gateway.models.backend import GenerationDefaults, InferenceBackend
from farebox.gateway.models.catalog import ServedModel
from farebox_engine.errors import RequestError, TemplateError
from farebox_engine.grammar.compiler import Grammar, GrammarSpec
from farebox_engine.params import SamplingParams
from farebox_engine.tokenization.answer_format import CLOSE_CALL, AnswerParser

# What a request gets that names no max_tokens, as far as the context has room: without a bound, the
# worst case that admission reserves would be the whole context.
DEFAULT_MAX_TOKENS = 1024

T = TypeVar("T")


class Job(msgspec.Struct, frozen=True):
    """Answers to generate: `n` for each prompt. Choice i*n + j is the j-th answer to prompt i.

    `max_tokens` bounds each answer. `prompts` are token ids. `priority` is the engine's class: 0, or -1
    for one that yields.
    """

    model: ServedModel
    prompts: list[list[int]]
    n: int
    max_tokens: int
    params: SamplingParams
    stream: bool
    include_usage: bool
    grammar: Grammar | None = None
    new_parser: Callable[[], AnswerParser] | None = None
    priority: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Each prompt counts once, however many answers it gets."""
        return sum(map(len, self.prompts))

    @property
    def choices(self) -> int:
        return len(self.prompts) * self.n

    def params_of(self, choice: int) -> SamplingParams:
        """The parameters of one choice: with a seed, each answer to a prompt has its own next one."""
        step = choice % self.n
        if not step or self.params.seed is None:
            return self.params
        return replace(self.params, seed=(self.params.seed + step) % 2**63)


def _echoes(request: Sampling) -> bool:
    return isinstance(request, CompletionRequest) and bool(request.echo)


def check_request(request: Sampling) -> None:
    """Refuse what is not supported, and fields that contradict each other. Raises BadRequest."""
    refuse_unsupported(request)
    if request.stream_options is not None and not request.stream:
        raise InvalidParameter("`stream_options` goes with `stream: true` only.", "stream_options")
    if isinstance(request, ChatCompletionRequest):
        if request.top_logprobs is not None and not request.logprobs:
            raise InvalidParameter("`top_logprobs` goes with `logprobs: true` only.", "top_logprobs")
        limits = {request.max_tokens, request.max_completion_tokens} - {None}
        if len(limits) == 2:
            raise InvalidParameter(
                "`max_tokens` and `max_completion_tokens` differ; send one of them.", "max_tokens"
            )
    elif isinstance(request, CompletionRequest) and request.best_of not in (None, request.n or 1):
        raise UnsupportedParameter("best_of", " It may only equal `n`.")


def render_chat(backend: InferenceBackend, request: ChatCompletionRequest) -> list[list[int]]:
    """The prompt of a conversation. Raises BadRequest when the model or its template refuses it."""
    messages = [plain_message(message) for message in request.messages]
    tools = offered_tools(request, backend.answer_format)
    try:
        return [backend.render_chat(messages, tools)]
    except TemplateError as error:
        raise InvalidParameter(f"This model cannot take these messages: {error}", "messages") from None


def encode_prompts(backend: InferenceBackend, prompt: str | list[str | int | list[int]]) -> list[list[int]]:
    """The prompts of a completion request: text, token ids, or a list of either. Raises InvalidParameter."""
    if isinstance(prompt, str):
        return [backend.encode(prompt)]
    if all(isinstance(item, int) for item in prompt):
        return [prompt]  # type: ignore[list-item]  # just checked
    if len(prompt) > MAX_PROMPTS:
        raise InvalidParameter(f"`prompt` has {len(prompt)} prompts; at most {MAX_PROMPTS}.", "prompt")
    prompts = []
    for item in prompt:
        if isinstance(item, int):
            raise InvalidParameter("`prompt` mixes token ids with prompts.", "prompt")
        prompts.append(backend.encode(item) if isinstance(item, str) else item)
    return prompts


def spell_bad_words(backend: InferenceBackend, words: list[str]) -> tuple[tuple[int, ...], ...]:
    """The sequences of tokens that the answer must not hold. Raises InvalidParameter."""
    try:
        found = [spelling for word in words for spelling in backend.spellings(word)]
    except RequestError as error:
        raise InvalidParameter(str(error), error.param) from None
    return tuple(dict.fromkeys(found))


def compile_grammar(backend: InferenceBackend, spec: GrammarSpec) -> Grammar:
    """What the answer must obey. Raises InvalidParameter when it cannot be enforced."""
    try:
        return backend.compile_grammar(spec)
    except RequestError as error:
        raise InvalidParameter(str(error), error.param) from None


def make_job(
    request: Sampling,
    model: ServedModel,
    prompts: list[list[int]],
    grammar: Grammar | None = None,
    bad_words: tuple[tuple[int, ...], ...] = (),
) -> Job:
    """Check the request against the model. Raises ContextLengthExceeded and InvalidParameter."""
    n = request.n or 1
    if len(prompts) * n > max(MAX_CHOICES, MAX_PROMPTS):
        raise InvalidParameter(f"{len(prompts)} prompts times n={n} are too many answers.", "n")
    options = request.stream_options
    max_tokens = _max_tokens(request, model.generator, prompts)
    return Job(
        model=model,
        prompts=prompts,
        n=n,
        max_tokens=max_tokens,
        params=_sampling_params(request, max_tokens, model.generator.defaults, bad_words),
        stream=bool(request.stream),
        include_usage=bool(options and options.include_usage),
        grammar=grammar,
        new_parser=_parser_factory(request, model.generator, prompts[0]),
        priority=-1 if request.priority else 0,
    )


def _parser_factory(
    request: Sampling, backend: InferenceBackend, prompt: list[int]
) -> Callable[[], AnswerParser] | None:
    """What reads the answer's text; None where all of it is content."""
    if not isinstance(request, ChatCompletionRequest):
        return None
    style = backend.answer_format
    with_tools = bool(request.tools) and request.tool_choice != "none"
    if not with_tools and not style.reasons:
        return None
    opened = backend.opens_reasoning(prompt)
    return lambda: AnswerParser(style, with_tools=with_tools, opened=opened)


def _max_tokens(request: Sampling, backend: InferenceBackend, prompts: list[list[int]]) -> int:
    chat = isinstance(request, ChatCompletionRequest)
    longest = max(map(len, prompts))
    if not min(map(len, prompts)):
        raise InvalidParameter("A prompt needs one token at least.", "messages" if chat else "prompt")
    asked, name = request.max_tokens, "max_tokens"
    if isinstance(request, ChatCompletionRequest) and request.max_completion_tokens is not None:
        asked, name = request.max_completion_tokens, "max_completion_tokens"
    context_length = backend.context_length
    room = context_length - longest
    if asked is None:
        if room < 1:
            raise ContextLengthExceeded(context_length, longest, None, "messages" if chat else "prompt")
        return min(room, DEFAULT_MAX_TOKENS, backend.defaults.max_new_tokens or DEFAULT_MAX_TOKENS)
    if asked < 1 and not _echoes(request):
        raise InvalidParameter(f"`{name}` must be at least 1; 0 goes with `echo` only.", name)
    if asked > room:
        raise ContextLengthExceeded(context_length, longest, asked, name)
    return asked


def _sampling_params(
    request: Sampling,
    max_tokens: int,
    defaults: GenerationDefaults,
    bad_words: tuple[tuple[int, ...], ...],
) -> SamplingParams:
    echoes = _echoes(request)
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
        "echo": echoes,
    }
    if request.logit_bias:
        fields["logit_bias"] = _logit_bias(request.logit_bias)
    if echoes:
        fields["prompt_logprobs"] = fields["logprobs"]
    if isinstance(request, CompletionRequest):
        fields |= {"num_beams": request.num_beams, "length_penalty": request.length_penalty}
    try:
        return SamplingParams(**fields) if request.logit_bias else _known_params(**fields)
    except RequestError as error:
        raise InvalidParameter(str(error), error.param) from None


# Most requests ask for what others did. Parameters are immutable, and checking them costs 5 µs.
_known_params = lru_cache(maxsize=1024)(SamplingParams)


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _stops(request: Sampling) -> tuple[str, ...]:
    stop = request.stop or ()
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if isinstance(request, ChatCompletionRequest) and request.tools and request.parallel_tool_calls is False:
        return (*stops, CLOSE_CALL)  # one call, and no second one after it
    return stops


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
