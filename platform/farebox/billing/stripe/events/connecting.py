"""Telling Stripe where to send what happens."""

from typing import Any

from farebox.billing.stripe.account import Account, Json
from farebox.billing.stripe.events.processing import TOLD
from farebox.core.settings import Settings


async def connect(account: Account, settings: Settings) -> Json:
    """Make an event destination of thin events for this Farebox; its signing secret is told this once.

    Raises as `Account.ask`.
    """
    params: Any = {
        "name": "Farebox",
        "type": "webhook_endpoint",
        "event_payload": "thin",
        "enabled_events": list(TOLD),
        "webhook_endpoint": {"url": f"{settings.public_url}/webhooks/stripe"},
        "include": ["webhook_endpoint.signing_secret", "webhook_endpoint.url"],
    }
    return await account.ask(lambda client: client.v2.core.event_destinations.create(params))
