"""`/livez`, `/readyz`, `/metrics`: for load balancers and Prometheus. None tells anything of a tenant."""

import asyncio

from litestar import Response, Router, get
from litestar.di import NamedDependency
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text

from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.http import StrictRequest
from farebox.core.metrics import REGISTRY
from farebox.gateway.service import Gateway

# A Postgres that hangs costs a pooled connection's time-out and then a new one's: too long for a
# load balancer's probe.
PROBE_SECONDS = 3.0


class Liveness(Struct):
    status: str


class Readiness(Struct):
    """`ready` is for the load balancer; the rest for whoever looks why. Models that failed to load are
    named with the reason, and do not make the server unready: the others serve."""

    ready: bool
    database: str
    models: list[str]
    failed_models: dict[str, str]
    draining: bool


@get("/livez", tags=["Operations"], operation_id="getLiveness")
async def livez() -> Liveness:
    """The process runs and its event loop turns."""
    return Liveness("ok")


@get("/readyz", tags=["Operations"], operation_id="getReadiness")
async def readyz(request: StrictRequest, database: NamedDependency[Database]) -> Response[Readiness]:
    """Requests can be served: 200; or not, and why: 503."""
    gateway: Gateway = request.app.state.gateway
    reachable = await _answers_in_time(database)
    ready = reachable and not gateway.runs.draining
    body = Readiness(
        ready=ready,
        database="ok" if reachable else "unreachable",
        models=[served.id for served in gateway.catalog.all()],
        failed_models=dict(gateway.catalog.failures),
        draining=gateway.runs.draining,
    )
    return Response(body, status_code=200 if ready else 503)


async def _answers_in_time(database: Database) -> bool:
    asking = asyncio.create_task(_answers(database), name="readiness")
    done, _ = await asyncio.wait((asking,), timeout=PROBE_SECONDS)
    # Not waited for: closing a connection that hangs takes its time, too.
    if not done:
        asking.cancel()
        return False
    return asking.result()


async def _answers(database: Database) -> bool:
    try:
        async with database.transaction() as session:
            await session.execute(text("SELECT 1"))
    except Unavailable:
        return False
    return True


@get("/metrics", tags=["Operations"], operation_id="getMetrics", include_in_schema=False)
async def metrics() -> Response[bytes]:
    """Prometheus's text format."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


router = Router(path="/", route_handlers=[livez, readyz, metrics])
