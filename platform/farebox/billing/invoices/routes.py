"""`/v1/organization/invoices` and `/v1/organization/billing_details`.

They take a key with the scope `admin` and answer for the organization of that key. Who is billed is for its
owners to say.
"""

from functools import partial
from typing import Any

import msgspec
from litestar import MediaType, Response, Router, get, post
from litestar.connection import Request
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, JSONBody
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.invoices.documentation import (
    BILLING_DETAILS,
    CHANGED_BILLING_DETAILS,
    HTML,
    INVOICE,
    INVOICES,
    PDF,
    PREVIEW,
)
from farebox.billing.invoices.documents.document import InvoiceDocument, from_json
from farebox.billing.invoices.documents.html import HEADERS, to_html
from farebox.billing.invoices.documents.pdf import to_pdf
from farebox.billing.invoices.errors import OwnersOnly
from farebox.billing.invoices.months.month import parse_month
from farebox.billing.invoices.parties import Details, billing_details, set_billing_details
from farebox.billing.invoices.reading import credit_notes_on, find_invoice, preview, some_invoices
from farebox.billing.invoices.schemas import (
    BillingDetails,
    InvoiceDetails,
    InvoiceList,
    InvoicePreview,
    ListParameters,
    PreviewParameters,
    details_of,
    list_of,
)
from farebox.billing.months import month_of
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.fair_threads import FairThreads
from farebox.core.ids import internal
from farebox.core.settings import Settings
from farebox.core.shares import Shares
from farebox.keys.dependencies import require_scope
from farebox.keys.service import Principal
from farebox.tenants.members import is_owner
from farebox.usage.parameters import parse, uuids
from farebox.usage.reading import report_transaction


@get(
    "/invoices",
    operation_id="listInvoices",
    summary="Invoices, statements and credit notes of the organization",
    opt={"documentation": INVOICES},
)
async def list_invoices(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
) -> InvoiceList:
    """Newest first; takes a key with the scope `admin`."""
    asked = parse(request, ListParameters)
    after = None if asked.after is None else uuids("after", "inv", [asked.after])[0]
    async with database.transaction(organization_id=principal.organization_id) as session:
        found = await some_invoices(session, principal.organization_id, limit=asked.limit + 1, after=after)
    return list_of(found, asked.limit)


@get(
    "/invoices/preview",
    operation_id="previewInvoice",
    summary="What a month's document would say now",
    opt={"documentation": PREVIEW},
)
async def preview_invoice(
    request: Request[Any, Any, Any],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
    settings: NamedDependency[Settings],
    report_shares: NamedDependency[Shares],
) -> InvoicePreview:
    """A draft of this month's document, or another's; takes a key with the scope `admin`."""
    asked = parse(request, PreviewParameters)
    month = month_of(utc_now()) if asked.month is None else parse_month(asked.month)
    tenant = principal.organization_id
    async with report_shares.of(tenant), report_transaction(database, tenant) as session:
        document = await preview(session, tenant, month, settings)
    return InvoicePreview(month=str(month), document=document)


@get(
    "/invoices/{invoice_id:str}",
    operation_id="getInvoice",
    summary="One document",
    opt={"documentation": INVOICE},
)
async def get_invoice(
    invoice_id: FromPath[str], database: NamedDependency[Database], principal: NamedDependency[Principal]
) -> InvoiceDetails:
    """What was issued, and what has become of it; takes a key with the scope `admin`."""
    async with database.transaction(organization_id=principal.organization_id) as session:
        found = await find_invoice(session, principal.organization_id, internal("inv", invoice_id))
        notes = await credit_notes_on(session, found)
    return details_of(found, notes)


@get(
    "/invoices/{invoice_id:str}/pdf",
    operation_id="getInvoicePdf",
    summary="One document as PDF",
    media_type="application/pdf",
    opt={"documentation": PDF},
)
async def get_pdf(
    invoice_id: FromPath[str],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
    printers: NamedDependency[FairThreads],
) -> Response[bytes]:
    """The same bytes each time; takes a key with the scope `admin`."""
    document = await _document(database, principal, invoice_id)
    made = await printers.run(principal.organization_id, partial(to_pdf, document))
    return Response(
        made,
        media_type="application/pdf",
        headers={
            "Content-Disposition": f'attachment; filename="{document.number}.pdf"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


@get(
    "/invoices/{invoice_id:str}/html",
    operation_id="getInvoiceHtml",
    summary="One document as a page",
    media_type=MediaType.HTML,
    opt={"documentation": HTML},
)
async def get_html(
    invoice_id: FromPath[str],
    database: NamedDependency[Database],
    principal: NamedDependency[Principal],
    printers: NamedDependency[FairThreads],
) -> Response[str]:
    """A page that needs nothing else; takes a key with the scope `admin`."""
    document = await _document(database, principal, invoice_id)
    made = await printers.run(principal.organization_id, partial(to_html, document))
    return Response(made, media_type=MediaType.HTML, headers=HEADERS)


@get(
    "/billing_details",
    operation_id="getBillingDetails",
    summary="Whom invoices are made out to",
    opt={"documentation": BILLING_DETAILS},
)
async def get_billing_details(
    database: NamedDependency[Database], principal: NamedDependency[Principal]
) -> BillingDetails:
    """As last set; takes a key with the scope `admin`."""
    async with database.transaction(organization_id=principal.organization_id) as session:
        return _shown(await billing_details(session, principal.organization_id))


@post(
    "/billing_details",
    status_code=200,
    operation_id="setBillingDetails",
    summary="Set whom invoices are made out to",
    opt={"documentation": CHANGED_BILLING_DETAILS},
)
async def change_billing_details(
    data: JSONBody[Details], database: NamedDependency[Database], principal: NamedDependency[Principal]
) -> BillingDetails:
    """All of it: what is left out becomes null. What was issued stays as it was.

    Takes a key with the scope `admin`: an owner's, or one that the operator made.
    """
    organization_id = principal.organization_id
    async with database.transaction(organization_id=organization_id, user_id=principal.user_id) as session:
        await _require_owner(session, principal)
        await set_billing_details(session, organization_id, data, actor_id=principal.user_id)
    return _shown(data)


async def _document(database: Database, principal: Principal, invoice_id: str) -> InvoiceDocument:
    async with database.transaction(organization_id=principal.organization_id) as session:
        found = await find_invoice(session, principal.organization_id, internal("inv", invoice_id))
    return from_json(found.document)


async def _require_owner(session: AsyncSession, principal: Principal) -> None:
    """Keys of nobody are the operator's. Raises Forbidden."""
    if principal.user_id is not None:
        allowed = await is_owner(session, principal.organization_id, principal.user_id)
    else:
        allowed = principal.service_account_id is None
    if not allowed:
        raise OwnersOnly


def _shown(details: Details) -> BillingDetails:
    return BillingDetails(**msgspec.structs.asdict(details))


router = Router(
    path="/v1/organization",
    route_handlers=[
        list_invoices,
        preview_invoice,
        get_invoice,
        get_pdf,
        get_html,
        get_billing_details,
        change_billing_details,
    ],
    dependencies={"principal": Provide(require_scope("admin"))},
    tags=["Invoices"],
)
