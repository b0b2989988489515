"""Invoices as the API tells them. Amounts are texts with all their digits."""

from collections.abc import Sequence
from typing import Annotated, Literal, cast

import msgspec
from msgspec import Meta

from farebox.billing.invoices.documents.document import DocumentKind, InvoiceDocument, from_json
from farebox.billing.invoices.models import Invoice
from farebox.billing.invoices.months.month import month_of_day
from farebox.billing.invoices.parties import Details
from farebox.core.ids import external
from farebox.core.money import plain

Status = Literal["open", "paid", "void", "uncollectible", "final"]


class InvoiceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A document, and what has become of it; times are Unix seconds, the month is of UTC."""

    id: str
    object: Literal["organization.invoice"] = "organization.invoice"
    kind: DocumentKind
    number: str
    status: Status
    month: str
    currency: str
    issued_at: int
    due_on: str | None
    total: str
    amount_due: str
    amount_paid: str
    amount_credited: str
    amount_open: str
    settled_at: int | None
    refers_to: str | None


class InvoiceDetails(InvoiceSummary, frozen=True, kw_only=True):
    """The same, with what was issued, word for word, and the ids of credit notes on it."""

    credit_notes: list[str]
    document: InvoiceDocument


class InvoiceList(msgspec.Struct, frozen=True, kw_only=True):
    """A page, newest first; `last_id` goes into the `after` parameter."""

    object: Literal["list"] = "list"
    data: list[InvoiceSummary]
    first_id: str | None
    last_id: str | None
    has_more: bool


class InvoicePreview(msgspec.Struct, frozen=True, kw_only=True):
    """What a month's document would say now. It has no number, and asks for nothing yet."""

    object: Literal["organization.invoice.preview"] = "organization.invoice.preview"
    status: Literal["draft"] = "draft"
    month: str
    document: InvoiceDocument


class ListParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What GET /v1/organization/invoices takes."""

    limit: Annotated[int, Meta(ge=1, le=100, description="Documents on a page.")] = 20
    after: Annotated[
        Annotated[str, Meta(max_length=100)] | None, Meta(description="`last_id` of the page before.")
    ] = None


class PreviewParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What GET /v1/organization/invoices/preview takes."""

    month: Annotated[
        Annotated[str, Meta(max_length=100)] | None,
        Meta(description="The month (UTC), such as `2026-11`; by default this one."),
    ] = None


class BillingDetails(Details, frozen=True, kw_only=True):
    """Whom invoices are made out to."""

    object: Literal["organization.billing_details"] = "organization.billing_details"


def summary_of(invoice: Invoice) -> InvoiceSummary:
    return InvoiceSummary(
        id=external("inv", invoice.id),
        kind=cast(DocumentKind, invoice.kind),
        number=invoice.number,
        status=cast(Status, invoice.status),
        month=str(month_of_day(invoice.month)),
        currency=invoice.currency,
        issued_at=int(invoice.issued_at.timestamp()),
        due_on=None if invoice.due_on is None else invoice.due_on.isoformat(),
        total=plain(invoice.total, invoice.currency),
        amount_due=plain(invoice.due, invoice.currency),
        amount_paid=plain(invoice.paid - invoice.refunded, invoice.currency),
        amount_credited=plain(invoice.credited, invoice.currency),
        amount_open=plain(invoice.outstanding, invoice.currency),
        settled_at=None if invoice.settled_at is None else int(invoice.settled_at.timestamp()),
        refers_to=None if invoice.refers_to is None else external("inv", invoice.refers_to),
    )


def details_of(invoice: Invoice, credit_notes: Sequence[Invoice]) -> InvoiceDetails:
    return InvoiceDetails(
        **msgspec.structs.asdict(summary_of(invoice)),
        credit_notes=[external("inv", each.id) for each in credit_notes],
        document=from_json(invoice.document),
    )


def list_of(invoices: Sequence[Invoice], limit: int) -> InvoiceList:
    """A page of `limit`; one more than that tells that there is another page."""
    data = [summary_of(each) for each in invoices[:limit]]
    return InvoiceList(
        data=data,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        has_more=len(invoices) > limit,
    )
