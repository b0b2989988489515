"""A request's texts as tokens, and its grammar as automata: what only a model's own backend can make."""

from collections.abc import Sequence

import msgspec

from farebox.gateway.completions.jobs.grammars import grammar_spec
from farebox.gateway.completions.jobs.thinking import template_variables
from farebox.gateway.completions.jobs.tools import OfferedTool, described_tools, offered_tools
from farebox.gateway.completions.messages import plain_message
from farebox.gateway.completions.requests import ChatCompletionRequest, CompletionRequest
from farebox.gateway.errors import InvalidParameter
from farebox.gateway.models.answer_format import outline
from farebox.gateway.models.backend import InferenceBackend
from farebox.gateway.models.errors import RequestError, TemplateError
from farebox.gateway.models.grammar import Grammar, GrammarSpec


class ReadRequest(msgspec.Struct, frozen=True):
    """A request as its model reads it: `opened` if the prompt itself begins the model's reasoning.

    `tools` maps the names of those that may be called to the outlines of their schemas.
    """

    prompts: list[list[int]]
    opened: bool
    spec: GrammarSpec | None
    bad_words: tuple[tuple[int, ...], ...]
    tools: dict[str, dict[str, object]]


def read_prompts(
    backend: InferenceBackend, request: ChatCompletionRequest | CompletionRequest
) -> ReadRequest:
    """Tokenise all that there is to be; blocks for as long as that takes. Raises BadRequest."""
    tools: list[OfferedTool] = []
    if isinstance(request, ChatCompletionRequest):
        tools = offered_tools(request, backend.answer_format)
        prompts = render_chat(backend, request, tools)
        opened = backend.opens_reasoning(prompts[0])
    else:
        prompts, opened = encode_prompts(backend, request.prompt), False
    return ReadRequest(
        prompts,
        opened,
        grammar_spec(request, backend.answer_format, tools, opened=opened),
        spell_bad_words(backend, request.bad_words or []),
        {tool.name: outline(tool.parameters) for tool in tools},
    )


def render_chat(
    backend: InferenceBackend, request: ChatCompletionRequest, tools: Sequence[OfferedTool]
) -> list[list[int]]:
    """The prompt of a conversation. Raises BadRequest when the model or its template refuses it."""
    messages = [plain_message(message) for message in request.messages]
    variables = template_variables(request)
    try:
        return [backend.render_chat(messages, described_tools(tools), variables)]
    except TemplateError as error:
        raise InvalidParameter(f"This model cannot take these messages: {error}", "messages") from None


def encode_prompts(backend: InferenceBackend, prompt: str | list[str | int | list[int]]) -> list[list[int]]:
    """The prompts of a completion request: text, token ids, or a list of either. Raises InvalidParameter."""
    if isinstance(prompt, str):
        return [backend.encode(prompt)]
    if all(isinstance(item, int) for item in prompt):
        return [prompt]  # type: ignore[list-item]  # just checked
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
