"""The way of a request for text: prepared, admitted, run."""

import time
from functools import partial

from farebox.gateway.admission import admit_request
from farebox.gateway.completions.jobs.job import CompletionJob, check_request, make_job
from farebox.gateway.completions.jobs.prompts import compile_grammar, read_prompts
from farebox.gateway.completions.requests import ChatCompletionRequest, CompletionRequest
from farebox.gateway.completions.run import CompletionRun
from farebox.gateway.completions.writers.chat import ChatWriter
from farebox.gateway.completions.writers.completion import CompletionWriter
from farebox.gateway.completions.writers.writer import AnswerHead
from farebox.gateway.gate.gate import Visit
from farebox.gateway.gateway import Gateway
from farebox.gateway.models.catalog import ServedModel
from farebox.gateway.transport.wire import Wire

InferenceRequest = ChatCompletionRequest | CompletionRequest


async def admit_completion(
    gateway: Gateway,
    request: InferenceRequest,
    visit: Visit,
    wire: Wire,
    writer: type[ChatWriter | CompletionWriter],
) -> CompletionRun:
    """Admit a request. What is to run holds nothing of it but what the answer needs.

    Raises what `admit_request` raises; from then on, errors are told to the client by the run.
    """
    prepare = partial(_prepare, gateway, visit)
    job, grant = await admit_request(gateway, request, visit, wire, prepare, check_request)
    job = job.within(grant.max_output_tokens)
    receipts = gateway.meter.issues_receipts
    written_by = writer(_head(writer.id_prefix, job, wire, receipts=receipts))
    return CompletionRun(job, grant, gateway.meter, wire, written_by, gateway.writers)


async def _prepare(
    gateway: Gateway, visit: Visit, request: InferenceRequest, model: ServedModel
) -> CompletionJob:
    """Tokenise the prompts, and check the request against the model. Raises BadRequest."""
    backend = model.generator
    read = partial(read_prompts, backend, request)
    if visit.purse_first:
        await visit.require_payable(model.id)
    found = read() if visit.small else await visit.run(gateway.readers_of(visit.body_bytes), read)
    grammar = None
    if found.spec is not None:
        # Compiling may take a second, however short the text.
        await visit.require(model.id)
        grammar = await visit.run(gateway.compilers, partial(compile_grammar, backend, found.spec))
    return make_job(request, model, found, grammar, default_tokens=gateway.default_tokens)


def _head(id_prefix: str, job: CompletionJob, wire: Wire, *, receipts: bool) -> AnswerHead:
    return AnswerHead(
        id=id_prefix + wire.exchange.request_id.hex,
        created=int(time.time()),
        model=job.model.id,
        fingerprint=job.model.fingerprint,
        include_usage=job.include_usage,
        with_logprobs=job.params.logprobs is not None,
        new_parser=job.new_parser,
        choices=job.choices,
        # With the usage comes an event that is written after the settlement in any case.
        closes_with_receipt=receipts and not job.include_usage,
    )
