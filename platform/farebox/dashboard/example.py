"""The model that a first call may be sent to, for the calls that pages show."""

from typing import Any

from litestar.connection import Request
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.service import current_prices

PLACEHOLDER = "MODEL"


async def example_model(request: Request[Any, Any, Any], session: AsyncSession) -> str:
    """One that is loaded, has a price and answers conversations; PLACEHOLDER where there is none."""
    loaded = request.app.state.gateway.catalog.all()
    prices = await current_prices(session)
    return next((each.id for each in loaded if each.chats and each.id in prices), PLACEHOLDER)
