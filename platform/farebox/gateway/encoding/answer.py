"""The way of a request to an encoder: prepared, admitted, run."""

import asyncio
from functools import partial

from farebox.gateway.admission import admit_request
from farebox.gateway.encoding.bounds import check_encoding
from farebox.gateway.encoding.jobs import EncodingJob, make_encoding_job
from farebox.gateway.encoding.requests import EncodingRequest
from farebox.gateway.encoding.run import EncodingRun
from farebox.gateway.gateway import Gateway
from farebox.gateway.models.catalog import ServedModel
from farebox.gateway.transport.wire import Wire
from farebox.keys.tokens import KeyClaims


async def answer_encoding(gateway: Gateway, request: EncodingRequest, claims: KeyClaims, wire: Wire) -> None:
    """Admit a request, compute it, and wait for the end.

    Its answers are whole: a client that leaves before one is there pays nothing. Raises what
    `admit_request` raises; from then on, errors are told to the client by the run.
    """
    job, grant = await admit_request(
        gateway, request, claims, wire, partial(_prepare, gateway), check_encoding
    )
    await gateway.runs.execute(EncodingRun(job, grant, gateway.meter, wire))


async def _prepare(gateway: Gateway, request: EncodingRequest, model: ServedModel) -> EncodingJob:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(gateway.tokenizers, make_encoding_job, request, model)
