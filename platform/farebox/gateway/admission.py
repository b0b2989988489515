"""The way of every inference request up to its admission."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from farebox.core.errors import FareboxError
from farebox.gateway.errors import ShuttingDown
from farebox.gateway.gate.gate import Visit
from farebox.gateway.gateway import Gateway
from farebox.gateway.models.catalog import ServedModel
from farebox.gateway.refusals import refusals_told
from farebox.gateway.transport.wire import Wire
from farebox.metering.admission import Admission, Grant


class ModelRequest(Protocol):
    """The body of a request that a model answers."""

    @property
    def model(self) -> str:
        """The name by which it is offered."""
        ...


class Job(Protocol):
    """What is to be computed: tokens, as an `Admission` has them."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def max_output_tokens(self) -> int: ...

    @property
    def expected_output_tokens(self) -> int: ...

    @property
    def least_output_tokens(self) -> int: ...

    @property
    def items(self) -> int: ...


Request = TypeVar("Request", bound=ModelRequest)
Prepared = TypeVar("Prepared", bound=Job)


def _accept(_: ModelRequest) -> None:
    """Nothing is to be checked before the model is known."""


async def admit_request(
    gateway: Gateway,
    request: Request,
    visit: Visit,
    wire: Wire,
    prepare: Callable[[Request, ServedModel], Awaitable[Prepared]],
    check: Callable[[Request], None] = _accept,
) -> tuple[Prepared, Grant]:
    """Check a request, find its model, have it prepared and admitted.

    Raises ShuttingDown, ModelNotFound, ModelLoading, what `check` and `prepare` raise (BadRequest), and what
    admission raises; InvalidApiKey before any of them, if the key is no good any more: what is wrong with a
    request is nothing a stranger should learn.
    """
    try:
        if gateway.runs.draining:
            raise ShuttingDown
        check(request)
    except FareboxError:
        await visit.authorise()
        raise
    try:
        model = gateway.catalog.get(request.model)
        job = await prepare(request, model)
    except FareboxError:
        # What is wrong with it for this model is told to those only who may call the model.
        await visit.require(request.model)
        raise
    admission = Admission(
        request_id=wire.exchange.request_id,
        organization_id=visit.claims.organization_id,
        key_id=visit.claims.key_id,
        token_sha256=visit.claims.digest,
        model_id=model.id,
        prompt_tokens=job.prompt_tokens,
        max_output_tokens=job.max_output_tokens,
        expected_output_tokens=job.expected_output_tokens,
        least_output_tokens=job.least_output_tokens,
        items=job.items,
    )
    with refusals_told(wire.exchange):
        grant = await gateway.meter.admit(admission)
    visit.end()
    return job, grant
