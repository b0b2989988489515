"""Mails about payments, to an organization's owners. No mail repeats what a customer typed."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models_stripe import TopUp
from farebox.core.database import Database
from farebox.core.mail import Mail, send
from farebox.core.money import plain
from farebox.core.outbox import post
from farebox.core.settings import Settings
from farebox.tenants.members import owner_addresses

MAIL = "stripe.mail"
FAILED, ACTION, DECLINED, PAUSED = "failed", "action", "declined", "paused"
NO_METHOD, REFUSED = "no_method", "refused"

_SUBJECTS: Mapping[str, str] = {
    FAILED: "Your payment to Farebox has failed",
    ACTION: "Your bank asks you to confirm a payment to Farebox",
    DECLINED: "Your automatic top-up was declined",
    PAUSED: "Your automatic top-up is paused",
    NO_METHOD: "Your automatic top-up is paused",
    REFUSED: "Your automatic top-up is paused",
}
_TEXTS: Mapping[str, str] = {
    FAILED: "Your payment of {amount} {currency} has failed. Nothing was added to your balance.\n\n"
    "Try again, or pay in another way:\n\n{billing}",
    ACTION: "Your balance ran low, and Farebox tried to pay in {amount} {currency}.\n"
    "Your bank asks you to confirm that. Until then, automatic top-up is paused.\n\n"
    "Confirm the payment:\n\n{url}",
    DECLINED: "Your balance ran low, and Farebox tried to pay in {amount} {currency}. Your bank declined.\n"
    "Farebox tries again later.\n\nPay now, or choose another payment method:\n\n{billing}",
    PAUSED: "Your bank declined {amount} {currency} again.\n"
    "Farebox tries no more until you save the settings of automatic top-up anew:\n\n{billing}",
    NO_METHOD: "Your balance ran low, and there is no payment method to charge {amount} {currency} to.\n\n"
    "Pay once by hand, and allow Farebox to keep the payment method:\n\n{billing}",
    REFUSED: "Your balance ran low, and {amount} {currency} could not be charged to your payment method.\n"
    "Farebox tries no more until you save the settings of automatic top-up anew:\n\n{billing}",
}


async def post_mail(session: AsyncSession, what: str, top_up: TopUp) -> None:
    await post(session, MAIL, {"what": what, "top_up": str(top_up.id)})


async def mail(database: Database, settings: Settings, payload: dict[str, Any]) -> None:
    """The handler of the topic."""
    async with database.meter_transaction() as session:
        row = await session.get(TopUp, UUID(payload["top_up"]))
        addresses = [] if row is None else await owner_addresses(session, row.organization_id)
    if row is None:
        return
    text = _TEXTS[payload["what"]].format(
        amount=plain(row.amount, row.currency),
        currency=row.currency,
        billing=f"{settings.public_url}/billing",
        url=row.url,
    )
    for address in addresses:
        await send(settings, Mail(address, _SUBJECTS[payload["what"]], f"Hello,\n\n{text}"))
