"""A request, checked against its model: the answers to generate, and the most they may cost."""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from farebox.gateway.completions.jobs.bounds import check_answers, check_scores, tokens_with_scores
from farebox.gateway.completions.jobs.prompts import ReadRequest
from farebox.gateway.completions.jobs.sampling import echoes, sampling_params
from farebox.gateway.completions.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    Sampling,
    refuse_unsupported,
)
from farebox.gateway.errors import ContextLengthExceeded, InvalidParameter, UnsupportedParameter
from farebox.gateway.models.answer_format import AnswerFormat, AnswerParser
from farebox.gateway.models.backend import InferenceBackend
from farebox.gateway.models.catalog import ServedModel
from farebox.gateway.models.generation import SamplingParams
from farebox.gateway.models.grammar import Grammar

# What a text gets that names no max_tokens, as at OpenAI. A chat gets what the operator's setting says.
DEFAULT_TEXT_TOKENS = 16
# What a rate limit counts of an answer of open length while it runs: most are far shorter than their default.
EXPECTED_OPEN_TOKENS = 1024


class CompletionJob(msgspec.Struct, frozen=True):
    """Answers to generate: `n` for each prompt. Choice i*n + j is the j-th answer to prompt i.

    `max_tokens` bounds each answer; with `open_length` it is a default, which admission may lower.
    `prompts` are token ids. `priority` is the engine's class: 0, or -1 for one that yields.
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
    open_length: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Each prompt counts once, however many answers it gets."""
        return sum(map(len, self.prompts))

    @property
    def max_output_tokens(self) -> int:
        """What all answers together have at most."""
        return self.max_tokens * self.choices

    @property
    def expected_output_tokens(self) -> int:
        """What rate limits count of all answers until they have ended."""
        each = min(self.max_tokens, EXPECTED_OPEN_TOKENS) if self.open_length else self.max_tokens
        return each * self.choices

    @property
    def least_output_tokens(self) -> int:
        """What all answers together may be lowered to where money is short."""
        return self.choices if self.open_length else self.max_output_tokens

    @property
    def items(self) -> int:
        """Answers are sold by the token alone."""
        return 0

    def within(self, max_output_tokens: int) -> "CompletionJob":
        """The same, with so many tokens for all answers together."""
        if max_output_tokens == self.max_output_tokens:
            return self
        max_tokens = max_output_tokens // self.choices
        params = replace(self.params, max_tokens=max_tokens)
        return msgspec.structs.replace(self, max_tokens=max_tokens, params=params)

    @property
    def choices(self) -> int:
        return len(self.prompts) * self.n

    def params_of(self, choice: int) -> SamplingParams:
        """The parameters of one choice: with a seed, each answer to a prompt has its own next one."""
        step = choice % self.n
        if not step or self.params.seed is None:
            return self.params
        return replace(self.params, seed=(self.params.seed + step) % 2**63)


def check_request(request: Sampling) -> None:
    """Refuse what is not supported, is too much, or contradicts itself. Raises BadRequest."""
    refuse_unsupported(request)
    check_answers(request)
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


def make_job(
    request: Sampling,
    model: ServedModel,
    found: ReadRequest,
    grammar: Grammar | None,
    *,
    default_tokens: int,
) -> CompletionJob:
    """Check the request against the model. Raises BadRequest.

    `default_tokens` bounds an answer of which the request does not, as far as the context has room:
    without it, the worst case that admission reserves would be the whole context.
    """
    n, prompts = request.n or 1, found.prompts
    if request.truncate_prompt_tokens is not None:
        prompts = [prompt[-request.truncate_prompt_tokens :] for prompt in prompts]
    options = request.stream_options
    max_tokens, is_default = _max_tokens(request, model.generator, prompts, default_tokens)
    params = sampling_params(request, max_tokens, model.generator.defaults, found.bad_words)
    if params.logprobs is not None and not request.stream:
        echoed = max(map(len, prompts)) if params.echo else 0
        if is_default:
            room = tokens_with_scores(len(prompts) * n, params.logprobs) - echoed
            max_tokens = min(max_tokens, max(room, 1))
        check_scores(len(prompts) * n, max_tokens + echoed, params.logprobs)
        params = replace(params, max_tokens=max_tokens)
    return CompletionJob(
        model=model,
        prompts=prompts,
        n=n,
        max_tokens=max_tokens,
        params=params,
        stream=bool(request.stream),
        include_usage=bool(options and options.include_usage),
        grammar=grammar,
        new_parser=_parser_factory(request, model.generator.answer_format, found),
        priority=-1 if request.priority else 0,
        # Whoever asks for a least length gets it, or a refusal.
        open_length=is_default and not params.min_tokens,
    )


def _parser_factory(
    request: Sampling, style: AnswerFormat, found: ReadRequest
) -> Callable[[], AnswerParser] | None:
    """What reads the answer's text; None where all of it is content."""
    if not isinstance(request, ChatCompletionRequest):
        return None
    tools, opened = found.tools, found.opened
    if not tools and not style.reasons:
        return None
    return lambda: AnswerParser(style, tools=tools, opened=opened)


def _max_tokens(
    request: Sampling, backend: InferenceBackend, prompts: list[list[int]], default_tokens: int
) -> tuple[int, bool]:
    """The most that each answer may have, and whether that is a default."""
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
        if not chat and backend.continues_text:
            default_tokens = DEFAULT_TEXT_TOKENS
        return min(room, default_tokens, backend.defaults.max_new_tokens or default_tokens), True
    if asked < 1 and not echoes(request):
        raise InvalidParameter(f"`{name}` must be at least 1; 0 goes with `echo` only.", name)
    if asked > room:
        raise ContextLengthExceeded(context_length, longest, asked, name)
    return asked, False
