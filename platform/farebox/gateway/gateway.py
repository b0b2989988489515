"""The gateway of one process: what its routes work with, and the way of a request through it."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from farebox.core.database import Database
from farebox.core.errors import FareboxError
from farebox.gateway.completions.grammars import grammar_spec
from farebox.gateway.completions.jobs import (
    Job,
    check_request,
    compile_grammar,
    encode_prompts,
    make_job,
    render_chat,
    spell_bad_words,
)
from farebox.gateway.completions.requests import ChatCompletionRequest, CompletionRequest
from farebox.gateway.completions.run import Run
from farebox.gateway.completions.writers import ChatWriter, CompletionWriter, Heading, Writer
from farebox.gateway.errors import ShuttingDown
from farebox.gateway.live_runs import Runs
from farebox.gateway.models.catalog import Catalog, ServedModel
from farebox.gateway.transport.wire import Wire
from farebox.keys.service import authenticate
from farebox.keys.tokens import KeyClaims
from farebox.metering.admission import Admission
from farebox.metering.errors import ModelNotFound
from farebox.metering.meter import Meter
from farebox_engine.grammar.compiler import Grammar, GrammarSpec

# Below this, tokenising takes less time than the way to a thread and back.
INLINE_CHARACTERS = 2_000

R = TypeVar("R")
InferenceRequest = ChatCompletionRequest | CompletionRequest


@dataclass(slots=True)
class Gateway:
    """Opened by the application's lifespan, found by the routes in `app.state.gateway`."""

    database: Database
    meter: Meter
    catalog: Catalog
    runs: Runs
    tokenizers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenize")
    )
    # Apart from the tokenizers: a grammar can take a second.
    compilers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=2, thread_name_prefix="compile")
    )
    compiling: "WeakValueDictionary[UUID, asyncio.Lock]" = field(default_factory=WeakValueDictionary)

    async def answer(
        self,
        request: InferenceRequest,
        claims: KeyClaims,
        wire: Wire,
        writer: type[ChatWriter | CompletionWriter],
    ) -> None:
        """Check a request, admit it, run it, and wait for the end.

        Raises what `prepare` and admission raise; from then on, errors are told to the client by the run.
        """
        job = await self.prepare(request, claims)
        grant = await self.meter.admit(
            Admission(
                request_id=wire.exchange.request_id,
                key_id=claims.key_id,
                token_sha256=claims.digest,
                model_id=job.model.id,
                prompt_tokens=job.prompt_tokens,
                max_output_tokens=job.max_tokens * job.choices,
            )
        )
        await self.runs.execute(Run(job, grant, self.meter, wire, _make_writer(writer, job, wire)))

    async def prepare(self, request: InferenceRequest, claims: KeyClaims) -> Job:
        """Check a request and tokenise its prompts.

        Raises BadRequest and ModelNotFound; InvalidApiKey before either, if the key is no good any
        more: what is wrong with a request is nothing a stranger should learn.
        """
        try:
            if self.runs.draining:
                raise ShuttingDown
            check_request(request)
            model = self.catalog.find(request.model)
            if model is None:
                raise ModelNotFound(request.model)
            prompts = await self._tokenise(request, model)
            backend = model.generator
            opened = backend.opens_reasoning(prompts[0])
            spec = grammar_spec(request, backend.answer_format, opened=opened)
            grammar = await self._compile(model, spec, claims) if spec is not None else None
            return make_job(request, model, prompts, grammar, await self._spell(request, model))
        except FareboxError:
            await authenticate(self.database, claims)
            raise

    async def _tokenise(self, request: InferenceRequest, model: ServedModel) -> list[list[int]]:
        backend = model.generator
        if isinstance(request, ChatCompletionRequest):
            size = sum(len(message.content or "") for message in request.messages)
            size += 1000 * len(request.tools or ())
            return await self._off_loop(size, lambda: render_chat(backend, request))
        prompt = request.prompt
        size = (
            len(prompt) if isinstance(prompt, str) else sum(len(p) for p in prompt if not isinstance(p, int))
        )
        return await self._off_loop(size, lambda: encode_prompts(backend, prompt))

    async def _spell(self, request: InferenceRequest, model: ServedModel) -> tuple[tuple[int, ...], ...]:
        words = request.bad_words or []
        # Each is encoded four times.
        size = 4 * sum(map(len, words))
        return await self._off_loop(size, lambda: spell_bad_words(model.generator, words))

    async def _compile(self, model: ServedModel, spec: GrammarSpec, claims: KeyClaims) -> Grammar:
        loop = asyncio.get_running_loop()
        # One at a time for each organization: many slow ones hold up their own sender.
        turn = self.compiling.setdefault(claims.organization_id, asyncio.Lock())
        async with turn:
            return await loop.run_in_executor(self.compilers, compile_grammar, model.generator, spec)

    async def _off_loop(self, size: int, work: Callable[[], R]) -> R:
        if size < INLINE_CHARACTERS:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.tokenizers, work)


def _make_writer(kind: type[ChatWriter | CompletionWriter], job: Job, wire: Wire) -> Writer:
    prefix = "chatcmpl-" if kind is ChatWriter else "cmpl-"
    return kind(
        Heading(
            id=prefix + wire.exchange.request_id.hex,
            created=int(time.time()),
            model=job.model.id,
            fingerprint=job.model.fingerprint,
            include_usage=job.include_usage,
            with_logprobs=job.params.logprobs is not None,
            new_parser=job.new_parser,
        )
    )
