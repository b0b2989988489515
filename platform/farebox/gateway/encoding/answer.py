"""The way of a request to an encoder: prepared, admitted, run."""

from functools import partial

from farebox.gateway.admission import admit_request
from farebox.gateway.encoding.bounds import check_encoding
from farebox.gateway.encoding.jobs import EncodingJob, make_encoding_job
from farebox.gateway.encoding.requests import EncodingRequest
from farebox.gateway.encoding.run import EncodingRun
from farebox.gateway.gate.gate import Visit
from farebox.gateway.gateway import Gateway
from farebox.gateway.models.catalog import ServedModel
from farebox.gateway.transport.wire import Wire


async def admit_encoding(gateway: Gateway, request: EncodingRequest, visit: Visit, wire: Wire) -> EncodingRun:
    """Admit a request. What is to run holds nothing of it but what the answer needs.

    Its answers are whole: a client that leaves before one is there pays nothing. Raises what
    `admit_request` raises; from then on, errors are told to the client by the run.
    """
    prepare = partial(_prepare, gateway, visit)
    job, grant = await admit_request(gateway, request, visit, wire, prepare, check_encoding)
    return EncodingRun(job, grant, gateway.meter, wire, gateway.writers)


async def _prepare(
    gateway: Gateway, visit: Visit, request: EncodingRequest, model: ServedModel
) -> EncodingJob:
    if visit.purse_first or not visit.small:
        await visit.require_payable(model.id)
    readers = gateway.readers_of(visit.body_bytes)
    return await visit.run(readers, partial(make_encoding_job, request, model))
