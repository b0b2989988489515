"""The models that an organization may call, as pages show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from litestar.connection import Request
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models import Price
from farebox.billing.prices import current_prices
from farebox.tenants.organizations import find_organization

PLACEHOLDER = "MODEL"


@dataclass(frozen=True)
class PricedModel:
    """A model on offer; `context_length` is in tokens, `chats` whether it answers conversations."""

    id: str
    kind: str
    context_length: int
    chats: bool
    price: Price


async def models_offered(
    request: Request[Any, Any, Any], session: AsyncSession, organization_id: UUID
) -> Sequence[PricedModel]:
    """What is loaded, has a price, and is not kept from the organization by a ceiling of its own."""
    organization = await find_organization(session, organization_id)
    allowed = organization.allowed_models if organization else []
    prices = await current_prices(session)
    return [
        PricedModel(served.id, served.kind, served.backend.context_length, served.chats, prices[served.id])
        for served in request.app.state.gateway.catalog.all()
        if served.id in prices and (allowed is None or served.id in allowed)
    ]


async def example_model(request: Request[Any, Any, Any], session: AsyncSession, organization_id: UUID) -> str:
    """One to send a first call to, which answers conversations; PLACEHOLDER where there is none."""
    offered = await models_offered(request, session, organization_id)
    return next((model.id for model in offered if model.chats), PLACEHOLDER)
