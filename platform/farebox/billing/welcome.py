"""Promotional credit for whoever has signed up and confirmed an address, if the operator gives any."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from farebox.billing.ledger import was_entered
from farebox.billing.promotions import grant
from farebox.core.database import Database, present
from farebox.core.outbox import Handler
from farebox.core.settings import Settings
from farebox.tenants.members import organizations_of

WELCOME = "credit.welcome"
# Once for each organization, whoever of its people confirms an address.
_REFERENCE = "sign-up credit"


async def give_welcome_credit(database: Database, settings: Settings, payload: dict[str, Any]) -> None:
    """After a user's address was confirmed: credit for the organizations that the user belongs to."""
    if settings.sign_up_credit is None:
        return
    async with database.meter_transaction() as session:
        organizations = await organizations_of(session, UUID(payload["user_id"]))
    for organization_id in organizations:
        async with database.meter_transaction() as session:
            if await was_entered(session, organization_id, _REFERENCE):
                continue
            await grant(
                session,
                organization_id=organization_id,
                amount=Decimal(settings.sign_up_credit),
                currency=settings.currency,
                reference=_REFERENCE,
                expires_at=await present(session) + timedelta(days=settings.sign_up_credit_days),
            )


HANDLERS: dict[str, Handler] = {WELCOME: give_welcome_credit}
