"""GET /v1/organization/usage/completions and /v1/organization/costs, in OpenAI's shape.

They take a key with the scope `admin` and answer for the whole organization of that key.
"""

from typing import Any

import msgspec
from litestar import MediaType, Response, Router, get
from litestar.connection import Request
from litestar.di import NamedDependency, Provide

from farebox.core.database import Database
from farebox.core.fair_threads import FairThreads
from farebox.core.shares import Shares
from farebox.keys.dependencies import require_scope
from farebox.keys.service import Principal
from farebox.usage.documentation import COMPLETIONS_USAGE, COSTS
from farebox.usage.parameters import CompletionsParameters, CostsParameters, parse
from farebox.usage.reading import report_transaction
from farebox.usage.reports import completions_report, costs_report

# A Decimal becomes a JSON number digit by digit; through a float, cents would be lost.
_encode = msgspec.json.Encoder(decimal_format="number").encode


@get(
    "/usage/completions",
    operation_id="getCompletionsUsage",
    summary="Token usage of the organization, in time buckets",
    opt={"documentation": COMPLETIONS_USAGE},
)
async def completions_usage(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
    printers: NamedDependency[FairThreads],
    report_shares: NamedDependency[Shares],
) -> Response[bytes]:
    """What was used, by bucket and group; takes a key with the scope `admin`."""
    asked = parse(request, CompletionsParameters)
    tenant = principal.organization_id
    async with report_shares.of(tenant):
        async with report_transaction(database, tenant) as session:
            report = await completions_report(session, tenant, asked)
        return _json(await printers.run(tenant, lambda: _encode(report.lay_out())))


@get(
    "/costs",
    operation_id="getCosts",
    summary="Costs of the organization, by day",
    opt={"documentation": COSTS},
)
async def costs(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
    printers: NamedDependency[FairThreads],
    report_shares: NamedDependency[Shares],
) -> Response[bytes]:
    """What it cost, by day and group; takes a key with the scope `admin`."""
    asked = parse(request, CostsParameters)
    tenant = principal.organization_id
    async with report_shares.of(tenant):
        async with report_transaction(database, tenant) as session:
            report = await costs_report(session, tenant, asked)
        return _json(await printers.run(tenant, lambda: _encode(report.lay_out())))


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type=MediaType.JSON)


router = Router(
    path="/v1/organization",
    route_handlers=[completions_usage, costs],
    dependencies={"principal": Provide(require_scope("admin"))},
    tags=["Usage"],
)
