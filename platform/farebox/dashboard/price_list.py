"""Models and prices: what can be called now, and what it costs."""

from typing import Any

from litestar import Response, get
from litestar.connection import Request
from litestar.di import NamedDependency

from farebox.auth.dependencies import SignedIn
from farebox.core.database import Database
from farebox.core.fair_threads import FairThreads
from farebox.core.settings import Settings
from farebox.dashboard.frame import load_frame
from farebox.dashboard.offered_models import models_offered
from farebox.dashboard.pages import framed_page


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
        models = await models_offered(request, session, signed_in.organization_id)
    return await framed_page(printers, "models.html", frame=frame, models=models)
