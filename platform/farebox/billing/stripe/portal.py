"""Stripe's own page for a customer: payment methods, invoices, tax ids. Plans are changed here, not there."""

from typing import Any
from uuid import UUID

from farebox.billing.stripe.account import Account, Json, options
from farebox.billing.stripe.customers import ensure_customer
from farebox.core.database import Database
from farebox.core.settings import Settings

_FEATURES: Any = {
    "customer_update": {"enabled": True, "allowed_updates": ["address", "name", "tax_id"]},
    "invoice_history": {"enabled": True},
    "payment_method_update": {"enabled": True},
    "subscription_cancel": {"enabled": False},
    "subscription_update": {"enabled": False},
}
_MARK = {"farebox": "portal"}


async def open_portal(
    database: Database, account: Account, settings: Settings, organization_id: UUID, email: str | None = None
) -> str:
    """The page's address, good for a few minutes. Raises as `Account.ask`."""
    customer = await ensure_customer(database, account, organization_id, email)
    configuration = await _configuration(account)
    params: Any = {
        "customer": customer,
        "configuration": configuration["id"],
        "return_url": f"{settings.public_url}/billing",
    }
    made = await account.ask(lambda client: client.v1.billing_portal.sessions.create(params))
    return str(made["url"])


async def _configuration(account: Account) -> Json:
    """Ours, made at the first need: the account's default may let customers cancel what is sold elsewhere."""
    listed: Any = {"active": True, "limit": 100}
    for each in await account.list(lambda client: client.v1.billing_portal.configurations.list(listed)):
        if (each.get("metadata") or {}).get("farebox") == "portal":
            return each
    params: Any = {"features": _FEATURES, "metadata": _MARK}
    return await account.ask(
        lambda client: client.v1.billing_portal.configurations.create(params, options("portal"))
    )
