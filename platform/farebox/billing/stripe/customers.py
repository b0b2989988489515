"""Who an organization is at Stripe."""

from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.models_stripe import StripeCustomer
from farebox.billing.stripe.account import Account, Json, options
from farebox.core.database import Database
from farebox.core.ids import external
from farebox.tenants.organizations import find_organization

# Marks what is ours at an account that others may use as well.
MARK = "farebox_organization"


async def find_customer(session: AsyncSession, organization_id: UUID) -> StripeCustomer | None:
    return await session.get(StripeCustomer, organization_id)


async def ensure_customer(
    database: Database, account: Account, organization_id: UUID, email: str | None = None
) -> str:
    """The organization's customer at Stripe, made at the first need. Raises as `Account.ask`."""
    async with database.meter_transaction() as session:
        known = await find_customer(session, organization_id)
        organization = await find_organization(session, organization_id)
    if known is not None:
        return known.customer_id
    made = await _make_customer(account, organization_id)
    shown: Any = {"name": organization.name} if organization is not None else {}
    shown |= {"email": email} if email else {}
    if shown:
        await account.ask(lambda client: client.v1.customers.update(made["id"], shown))
    async with database.meter_transaction() as session:
        await session.execute(
            insert(StripeCustomer)
            .values(organization_id=organization_id, customer_id=made["id"])
            .on_conflict_do_nothing()
        )
        bound = await session.scalar(
            select(StripeCustomer.customer_id).where(StripeCustomer.organization_id == organization_id)
        )
    return str(bound)


async def _make_customer(account: Account, organization_id: UUID) -> Json:
    """With what never changes alone: the key allows no other parameters the next time, whoever asks then."""
    params: Any = {"metadata": {MARK: external("org", organization_id)}}
    return await account.ask(
        lambda client: client.v1.customers.create(params, options("customer", organization_id))
    )


async def keep_method(session: AsyncSession, organization_id: UUID, payment_method: str) -> None:
    """For payments that nobody is there to confirm; the organization has agreed to that."""
    await session.execute(
        update(StripeCustomer)
        .where(StripeCustomer.organization_id == organization_id)
        .values(payment_method=payment_method)
    )


async def follow_method(database: Database, account: Account, payment_method: str) -> str | None:
    """A method that its owner took away at Stripe is charged no more."""
    found = await account.ask(lambda client: client.v1.payment_methods.retrieve(payment_method))
    if found["customer"] is not None:
        return None
    async with database.meter_transaction() as session:
        await session.execute(
            update(StripeCustomer)
            .where(StripeCustomer.payment_method == payment_method)
            .values(payment_method=None)
        )
    return "forgotten"


async def follow_customer(database: Database, account: Account, customer_id: str) -> str | None:
    """One that was deleted at Stripe is made anew at the next need."""
    found = await account.ask(lambda client: client.v1.customers.retrieve(customer_id))
    if not found.get("deleted"):
        return None
    async with database.meter_transaction() as session:
        await session.execute(delete(StripeCustomer).where(StripeCustomer.customer_id == customer_id))
    return "forgotten"


async def method_on_file(account: Account, customer: StripeCustomer) -> str | None:
    """What to charge: the one that the customer chose as the default at Stripe, else the one kept here."""
    found: Json = await account.ask(lambda client: client.v1.customers.retrieve(customer.customer_id))
    chosen = (found.get("invoice_settings") or {}).get("default_payment_method")
    return chosen or customer.payment_method
