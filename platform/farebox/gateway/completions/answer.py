"""The way of a request for text: prepared, admitted, run."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from uuid import UUID

from farebox.gateway.admission import admit_request
from farebox.gateway.completions.jobs.grammars import grammar_spec
from farebox.gateway.completions.jobs.job import CompletionJob, check_request, make_job
from farebox.gateway.completions.jobs.prompts import (
    compile_grammar,
    encode_prompts,
    render_chat,
    spell_bad_words,
)
from farebox.gateway.completions.requests import ChatCompletionRequest, CompletionRequest
from farebox.gateway.completions.run import CompletionRun
from farebox.gateway.completions.writers.chat import ChatWriter
from farebox.gateway.completions.writers.completion import CompletionWriter
from farebox.gateway.completions.writers.writer import AnswerHead
from farebox.gateway.gateway import Gateway
from farebox.gateway.models.backend import InferenceBackend
from farebox.gateway.models.catalog import ServedModel
from farebox.gateway.models.grammar import Grammar, GrammarSpec
from farebox.gateway.transport.wire import Wire
from farebox.keys.tokens import KeyClaims

# Below this, tokenising takes less time than the way to a thread and back.
INLINE_CHARACTERS = 2_000

R = TypeVar("R")
InferenceRequest = ChatCompletionRequest | CompletionRequest


async def answer_completion(
    gateway: Gateway,
    request: InferenceRequest,
    claims: KeyClaims,
    wire: Wire,
    writer: type[ChatWriter | CompletionWriter],
) -> None:
    """Admit a request, run it, and wait for the end.

    Raises what `admit_request` raises; from then on, errors are told to the client by the run.
    """
    prepare = partial(_prepare, gateway, claims.organization_id)
    job, grant = await admit_request(gateway, request, claims, wire, prepare, check_request)
    run = CompletionRun(job, grant, gateway.meter, wire, writer(_head(writer.id_prefix, job, wire)))
    await gateway.runs.execute(run)


async def _prepare(
    gateway: Gateway, organization_id: UUID, request: InferenceRequest, model: ServedModel
) -> CompletionJob:
    """Tokenise the prompts, and check the request against the model. Raises BadRequest."""
    backend = model.generator
    prompts = await _tokenise(gateway, backend, request)
    opened = isinstance(request, ChatCompletionRequest) and backend.opens_reasoning(prompts[0])
    spec = grammar_spec(request, backend.answer_format, opened=opened)
    grammar = None if spec is None else await _compile(gateway, organization_id, backend, spec)
    bad_words = await _spell(gateway, backend, request.bad_words) if request.bad_words else ()
    return make_job(
        request, model, prompts, grammar, bad_words, default_tokens=gateway.default_tokens, opened=opened
    )


async def _tokenise(
    gateway: Gateway, backend: InferenceBackend, request: InferenceRequest
) -> list[list[int]]:
    if isinstance(request, ChatCompletionRequest):
        size = sum(len(message.content or "") for message in request.messages)
        size += 1000 * len(request.tools or ())
        return await _off_loop(gateway, size, lambda: render_chat(backend, request))
    prompt = request.prompt
    size = len(prompt) if isinstance(prompt, str) else sum(len(p) for p in prompt if not isinstance(p, int))
    return await _off_loop(gateway, size, lambda: encode_prompts(backend, prompt))


async def _spell(
    gateway: Gateway, backend: InferenceBackend, words: list[str]
) -> tuple[tuple[int, ...], ...]:
    # Each is encoded four times.
    size = 4 * sum(map(len, words))
    return await _off_loop(gateway, size, lambda: spell_bad_words(backend, words))


async def _compile(
    gateway: Gateway, organization_id: UUID, backend: InferenceBackend, spec: GrammarSpec
) -> Grammar:
    loop = asyncio.get_running_loop()
    # One at a time for each organization: many slow ones hold up their own sender.
    turn = gateway.compiling.setdefault(organization_id, asyncio.Lock())
    async with turn:
        return await loop.run_in_executor(gateway.compilers, compile_grammar, backend, spec)


async def _off_loop(gateway: Gateway, size: int, work: Callable[[], R]) -> R:
    if size < INLINE_CHARACTERS:
        return work()
    return await asyncio.get_running_loop().run_in_executor(gateway.tokenizers, work)


def _head(id_prefix: str, job: CompletionJob, wire: Wire) -> AnswerHead:
    return AnswerHead(
        id=id_prefix + wire.exchange.request_id.hex,
        created=int(time.time()),
        model=job.model.id,
        fingerprint=job.model.fingerprint,
        include_usage=job.include_usage,
        with_logprobs=job.params.logprobs is not None,
        new_parser=job.new_parser,
    )
