"""The models that an organization may call, as pages show them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from litestar.connection import Request
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models import Price
from farebox.billing.prices import prices_for, terms_of
from farebox.billing.terms import describe_tiers
from farebox.tenants.organizations import find_organization

PLACEHOLDER = "MODEL"


@dataclass(frozen=True)
class PricedModel:
    """A model on offer; `context_length` is in tokens, `chats` whether it answers conversations.

    `tiers` are those of its price, in words; the price's rates are the dearest of them.
    """

    id: str
    kind: str
    context_length: int
    chats: bool
    price: Price
    tiers: str


async def models_offered(
    request: Request[Any, Any, Any], session: AsyncSession, organization_id: UUID
) -> Sequence[PricedModel]:
    """What is loaded, has a price, and is not kept from the organization by a ceiling of its own."""
    organization = await find_organization(session, organization_id)
    allowed = organization.allowed_models if organization else []
    prices = await prices_for(session, organization_id)
    tiers = {name: describe_tiers(await terms_of(session, price)) for name, price in prices.items()}
    return [
        PricedModel(
            served.id,
            served.kind,
            served.backend.context_length,
            served.chats,
            prices[served.id],
            tiers[served.id],
        )
        for served in request.app.state.gateway.catalog.all()
        if served.id in prices and (allowed is None or served.id in allowed)
    ]


async def example_model(request: Request[Any, Any, Any], session: AsyncSession, organization_id: UUID) -> str:
    """One to send a first call to, which answers conversations; PLACEHOLDER where there is none."""
    offered = await models_offered(request, session, organization_id)
    return next((model.id for model in offered if model.chats), PLACEHOLDER)
