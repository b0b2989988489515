"""The page at Stripe where somebody pays: one for each top-up, however often it is asked for."""

from typing import Any

import structlog

from farebox.billing.models_stripe import TopUp
from farebox.billing.stripe.account import Account, Json, options
from farebox.billing.stripe.amounts import to_minor
from farebox.billing.stripe.customers import ensure_customer
from farebox.billing.stripe.errors import ProcessorRefused, UnknownTopUp
from farebox.billing.stripe.top_ups import MARK, bind
from farebox.core.database import Database
from farebox.core.ids import external
from farebox.core.settings import Settings

PREFIX = "topup"

log = structlog.get_logger(__name__)


async def open_checkout(
    database: Database, account: Account, settings: Settings, top_up: TopUp, email: str | None = None
) -> TopUp:
    """The top-up with the address of its page. Raises as `Account.ask`, and UnknownTopUp for an automatic
    one: its invoice charges it, and a page would charge it again.

    A crash between Stripe's answer and our note of it is mended by the next click, and by the first
    webhook: the same key gets the same session.
    """
    if top_up.kind != "checkout":
        raise UnknownTopUp
    if top_up.session_id is not None or top_up.state != "open":
        return top_up
    customer = await ensure_customer(database, account, top_up.organization_id, email)
    try:
        session = await make_session(account, settings, top_up, customer)
    except ProcessorRefused as refused:
        log.error("top_up.refused", top_up=str(top_up.id), reason=refused.reason)
        async with database.meter_transaction() as transaction:
            await bind(transaction, top_up.id, state="failed", failure=refused.reason)
        raise
    async with database.meter_transaction() as transaction:
        return await bind(transaction, top_up.id, session_id=session["id"], url=session["url"])


async def make_session(account: Account, settings: Settings, top_up: TopUp, customer: str) -> Json:
    """The session of a top-up. Its parameters are made of the row alone, as the key demands."""
    params = _params(settings, top_up, customer)
    return await account.ask(
        lambda client: client.v1.checkout.sessions.create(params, options("session", top_up.id))
    )


def _params(settings: Settings, top_up: TopUp, customer: str) -> Any:
    name = external(PREFIX, top_up.id)
    mark = {MARK: top_up.id.hex}
    params: Json = {
        "mode": "payment",
        "customer": customer,
        "client_reference_id": name,
        "metadata": mark,
        "line_items": [_line(settings, top_up)],
        "success_url": f"{settings.public_url}/billing?top_up={name}",
        "cancel_url": f"{settings.public_url}/billing",
        "expires_at": int(top_up.expires_at.timestamp()),
        "adaptive_pricing": {"enabled": False},
        "invoice_creation": {"enabled": True, "invoice_data": {"metadata": mark}},
        "payment_intent_data": {"metadata": mark},
    }
    if top_up.keeps_method:
        params["payment_intent_data"] |= {"setup_future_usage": "off_session"}
        params["consent_collection"] = {"payment_method_reuse_agreement": {"position": "auto"}}
    if settings.stripe_tax:
        params["automatic_tax"] = {"enabled": True}
        params["customer_update"] = {"address": "auto", "name": "auto"}
    return params


def _line(settings: Settings, top_up: TopUp) -> Json:
    price: Json = {
        "currency": top_up.currency.lower(),
        "unit_amount": to_minor(top_up.amount, top_up.currency),
        "product_data": {"name": "Prepaid credit"},
    }
    if settings.stripe_tax:
        price["tax_behavior"] = "exclusive"
    return {"quantity": 1, "price_data": price}
