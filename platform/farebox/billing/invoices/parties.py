"""Who sells, and who is billed."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.documents.document import Party
from farebox.billing.invoices.errors import IssuerIncomplete
from farebox.billing.invoices.models import BillingDetails
from farebox.core.ids import external
from farebox.core.settings import Language, Settings
from farebox.tenants.audit import record
from farebox.tenants.organizations import find_organization

# Without control characters; `$` alone would let a line's end through.
Text = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+(?!\n)$")]

Email = Annotated[str, Meta(max_length=254, pattern=r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+(?!\n)$")]


class Details(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom invoices are made out to; what is null is left out of them."""

    name: Annotated[Text | None, Meta(description="The legal name; the organization's, if null.")] = None
    address: Annotated[list[Text], Meta(max_length=6, description="The address, in lines.")] = []
    country: Annotated[
        Annotated[str, Meta(pattern=r"^[A-Z]{2}(?!\n)$")] | None, Meta(description="Two letters (ISO 3166).")
    ] = None
    tax_id: Annotated[Text | None, Meta(description="The tax number.")] = None
    email: Annotated[Email | None, Meta(description="Where invoices are sent.")] = None
    language: Annotated[
        Language | None, Meta(description="The language of invoices; the operator's choice, if null.")
    ] = None


def issuer_of(settings: Settings) -> Party:
    """Who sells, for a document that is to be numbered. Raises IssuerIncomplete, which names the settings."""
    if missing := settings.issuer.missing:
        raise IssuerIncomplete(missing)
    return issuer_so_far(settings)


def issuer_so_far(settings: Settings) -> Party:
    """The same for a draft: what is not set is left out."""
    issuer = settings.issuer
    return Party(
        name=issuer.name or "",
        address=list(issuer.address),
        country=issuer.country,
        tax_id=issuer.tax_id,
        email=issuer.email,
    )


async def billing_details(session: AsyncSession, organization_id: UUID) -> Details:
    """What was last set; nothing but nulls before."""
    row = await session.get(BillingDetails, organization_id)
    if row is None:
        return Details()
    return msgspec.convert(
        {name: getattr(row, name) for name in Details.__struct_fields__}, Details, strict=False
    )


async def set_billing_details(
    session: AsyncSession, organization_id: UUID, details: Details, *, actor_id: UUID | None
) -> None:
    """From now on: what was issued stays. Under the organization's transaction."""
    values = msgspec.structs.asdict(details)
    await session.execute(
        insert(BillingDetails)
        .values(organization_id=organization_id, **values)
        .on_conflict_do_update(index_elements=["organization_id"], set_=values)
    )
    await record(
        session,
        organization_id=organization_id,
        actor_id=actor_id,
        action="billing_details.changed",
        target=external("org", organization_id),
        detail=values,
    )


async def customer_of(session: AsyncSession, organization_id: UUID) -> tuple[Party, Language | None]:
    """Who is billed, and in which language if they chose one."""
    details = await billing_details(session, organization_id)
    organization = await find_organization(session, organization_id)
    name = details.name or (organization.name if organization else external("org", organization_id))
    party = Party(
        name=name,
        address=details.address,
        country=details.country,
        tax_id=details.tax_id,
        email=details.email,
    )
    return party, details.language
