"""Models and prices: what can be called now, and what it costs."""

from dataclasses import dataclass
from typing import Any

from litestar import Response, get
from litestar.connection import Request
from litestar.di import NamedDependency

from farebox.auth.dependencies import SignedIn
from farebox.billing.models import Price
from farebox.billing.service import current_prices
from farebox.core.database import Database
from farebox.core.fair_threads import FairThreads
from farebox.core.settings import Settings
from farebox.dashboard.frame import load_frame
from farebox.dashboard.pages import framed_page


@dataclass(frozen=True)
class PricedModel:
    """A line of the page; `context_length` is in tokens."""

    id: str
    kind: str
    context_length: int
    price: Price


@get("/prices")
async def models_page(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
) -> Response[str]:
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        frame = await load_frame(session, signed_in, settings)
        prices = await current_prices(session)
    models = [
        PricedModel(served.id, served.kind, served.backend.context_length, prices[served.id])
        for served in request.app.state.gateway.catalog.all()
        if served.id in prices
    ]
    return await framed_page(printers, "models.html", frame=frame, models=models)
