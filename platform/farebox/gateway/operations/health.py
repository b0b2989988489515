"""`/livez` and `/readyz`, for load balancers. Neither tells anything of a tenant."""

import asyncio

from litestar import Response, Router, get
from litestar.di import NamedDependency
from msgspec import Struct
from msgspec.structs import replace

from farebox.core.bodies import StrictRequest
from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.openapi.documentation import Content, Documentation, Reply
from farebox.gateway.gateway import Gateway

# A Postgres that hangs costs a pooled connection's time-out and then a new one's: too long for a
# load balancer's probe.
PROBE_SECONDS = 3.0


class Liveness(Struct):
    status: str


class Readiness(Struct):
    """`ready` is for the load balancer; the rest for whoever looks why. Models that failed to load are
    named with the reason, and do not make the server unready: the others serve. So do those that are loaded
    while others are still loading."""

    ready: bool
    database: str
    models: list[str]
    loading_models: list[str]
    failed_models: dict[str, str]
    draining: bool


_LIVENESS = Documentation(
    replies=[
        Reply(
            description="It lives.",
            contents=[Content(kind=Liveness, examples={"alive": Liveness("ok")})],
        )
    ]
)
_READY = Readiness(
    ready=True, database="ok", models=["farebox-demo"], loading_models=[], failed_models={}, draining=False
)
_AWAY = replace(_READY, ready=False, database="unreachable")
_LOADING = replace(_READY, ready=False, models=[], loading_models=["farebox-demo"])
_READINESS = Documentation(
    replies=[
        Reply(description="Ready.", contents=[Content(kind=Readiness, examples={"ready": _READY})]),
        Reply(
            description="Not ready, and why.",
            status=503,
            contents=[Content(kind=Readiness, examples={"database away": _AWAY, "loading": _LOADING})],
        ),
    ]
)


@get(
    "/livez",
    tags=["Operations"],
    operation_id="getLiveness",
    summary="Whether the process lives",
    opt={"documentation": _LIVENESS},
)
async def livez() -> Liveness:
    """The process runs and its event loop turns."""
    return Liveness("ok")


@get("/health", include_in_schema=False)
async def health() -> Liveness:
    """The same as `/livez`, by the name at which probes of other servers look."""
    return Liveness("ok")


@get(
    "/readyz",
    tags=["Operations"],
    operation_id="getReadiness",
    summary="Whether requests can be served",
    opt={"documentation": _READINESS},
)
async def readyz(request: StrictRequest, database: NamedDependency[Database]) -> Response[Readiness]:
    """Requests can be served: 200; or not, and why: 503."""
    gateway: Gateway = request.app.state.gateway
    reachable = await _answers_in_time(database)
    catalog = gateway.catalog
    ready = reachable and not gateway.runs.draining and bool(catalog.all() or not catalog.loading)
    body = Readiness(
        ready=ready,
        database="ok" if reachable else "unreachable",
        models=[served.id for served in catalog.all()],
        loading_models=sorted(catalog.loading),
        failed_models=dict(catalog.failures),
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
        await database.probe()
    except Unavailable:
        return False
    return True


router = Router(path="/", route_handlers=[livez, health, readyz])
