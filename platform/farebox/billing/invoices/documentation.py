"""What the pages of invoices say of themselves in the API reference; see `core.openapi.documentation`."""

from farebox.billing.invoices.documents.document import InvoiceDocument, Line, Movements, Party
from farebox.billing.invoices.errors import InvalidMonth, OwnersOnly, UnknownInvoice
from farebox.billing.invoices.parties import Details
from farebox.billing.invoices.schemas import (
    BillingDetails,
    InvoiceDetails,
    InvoiceList,
    InvoicePreview,
    InvoiceSummary,
    ListParameters,
    PreviewParameters,
)
from farebox.core.errors import BadRequest
from farebox.core.openapi.documentation import BODY_ERRORS, SERVER_ERRORS, Content, Documentation, Reply
from farebox.keys.errors import DuplicateHeader, InsufficientScope, InvalidApiKey
from farebox.usage.errors import ReportTooSlow

_ID = "inv_0199d3f27be07a518d90c1f4a6b8e203"
_PROJECT = "proj_0199d3ef10b87c02935f6d2a9be4c771"
_UNSUPPORTED = BadRequest("Unsupported parameter: `colour`.", param="colour", code="unsupported_parameter")
_COMMON = (DuplicateHeader(), InvalidApiKey(), InsufficientScope("admin"), *SERVER_ERRORS)

_SELLER = Party(name="Farebox Ltd", address=["1 Quay Street", "Harbourtown"], tax_id="XX 123")
_BUYER = Party(name="Acme GmbH", address=["Kai 1", "20457 Hamburg"], country="DE")
_LINE = Line(
    description="farebox-demo, output_tokens",
    project_id=_PROJECT,
    project="Default",
    model="farebox-demo",
    usage_class="output_tokens",
    quantity="8.009377",
    unit="1M tokens",
    unit_price="1.50",
    exact_amount="12.0140655",
    amount="12.01",
    account="revenue:farebox-demo",
)
_DOCUMENT = InvoiceDocument(
    kind="invoice",
    number="INV-2025-000001",
    organization_id="org_0199d3ef0e4f7d33a9a1f6c2b7d01e55",
    period_start="2025-11-01",
    period_end="2025-11-30",
    issued_on="2025-12-01",
    due_on="2025-12-31",
    currency="USD",
    language="en",
    issuer=_SELLER,
    customer=_BUYER,
    lines=[_LINE],
    exact_total="12.0140655",
    total="12.01",
    paid_from_balance="0.00",
    amount_due="12.01",
    payment="IBAN XX00 0000",
)
_DRAFT = InvoiceDocument(
    kind="statement",
    number=None,
    organization_id=_DOCUMENT.organization_id,
    period_start="2025-12-01",
    period_end="2025-12-31",
    issued_on=None,
    due_on=None,
    currency="USD",
    language="en",
    issuer=_SELLER,
    customer=_BUYER,
    lines=[_LINE],
    exact_total="12.0140655",
    total="12.01",
    paid_from_balance="12.01",
    amount_due="0.00",
    balance=Movements(
        opening="20.00",
        top_ups="0.00",
        grants="0.00",
        expiries="0.00",
        usage="-12.0140655",
        fees="0.00",
        other="0.00",
        closing="7.9859345",
    ),
)
_SUMMARY = {
    "id": _ID,
    "kind": "invoice",
    "number": "INV-2025-000001",
    "status": "open",
    "month": "2025-11",
    "currency": "USD",
    "issued_at": 1764550800,
    "due_on": "2025-12-31",
    "total": "12.01",
    "amount_due": "12.01",
    "amount_paid": "0.00",
    "amount_credited": "0.00",
    "amount_open": "12.01",
    "settled_at": None,
    "refers_to": None,
}
_DETAILS = Details(name="Acme GmbH", address=["Kai 1", "20457 Hamburg"], country="DE", language="en")
_SHOWN = BillingDetails(name="Acme GmbH", address=["Kai 1", "20457 Hamburg"], country="DE", language="en")

INVOICES = Documentation(
    query=ListParameters,
    values={"limit": 20, "after": _ID},
    replies=[
        Reply(
            description="A page, newest first.",
            contents=[
                Content(
                    kind=InvoiceList,
                    examples={
                        "one invoice": InvoiceList(
                            data=[InvoiceSummary(**_SUMMARY)],  # type: ignore[arg-type]
                            first_id=_ID,
                            last_id=_ID,
                            has_more=False,
                        )
                    },
                )
            ],
        )
    ],
    errors=(
        BadRequest("`after` must hold ids that begin with `inv_`.", param="after", code="invalid_value"),
        _UNSUPPORTED,
        *_COMMON,
    ),
    security="apiKey",
)
PREVIEW = Documentation(
    query=PreviewParameters,
    values={"month": "2025-12"},
    replies=[
        Reply(
            description="A draft.",
            contents=[
                Content(
                    kind=InvoicePreview,
                    examples={"a statement": InvoicePreview(month="2025-12", document=_DRAFT)},
                )
            ],
        )
    ],
    errors=(InvalidMonth("last month"), _UNSUPPORTED, ReportTooSlow(), *_COMMON),
    security="apiKey",
)
INVOICE = Documentation(
    values={"invoice_id": _ID},
    replies=[
        Reply(
            description="The document.",
            contents=[
                Content(
                    kind=InvoiceDetails,
                    examples={
                        "an invoice": InvoiceDetails(
                            **_SUMMARY,  # type: ignore[arg-type]
                            credit_notes=[],
                            document=_DOCUMENT,
                        )
                    },
                )
            ],
        )
    ],
    errors=(UnknownInvoice(), *_COMMON),
    security="apiKey",
)
PDF = Documentation(
    values={"invoice_id": _ID},
    replies=[
        Reply(
            description="The document as PDF/A.",
            contents=[Content(kind=str, media_type="application/pdf", examples={"its begin": "%PDF-1.7"})],
        )
    ],
    errors=(UnknownInvoice(), *_COMMON),
    security="apiKey",
)
HTML = Documentation(
    values={"invoice_id": _ID},
    replies=[
        Reply(
            description="The document as a page.",
            contents=[Content(kind=str, media_type="text/html", examples={"its begin": "<!doctype html>"})],
        )
    ],
    errors=(UnknownInvoice(), *_COMMON),
    security="apiKey",
)
BILLING_DETAILS = Documentation(
    replies=[
        Reply(
            description="As last set.",
            contents=[Content(kind=BillingDetails, examples={"a company": _SHOWN})],
        )
    ],
    errors=_COMMON,
    security="apiKey",
)
CHANGED_BILLING_DETAILS = Documentation(
    request={"a company": _DETAILS},
    replies=[
        Reply(
            description="As set now.", contents=[Content(kind=BillingDetails, examples={"a company": _SHOWN})]
        )
    ],
    errors=(*BODY_ERRORS, *_COMMON, OwnersOnly()),
    security="apiKey",
)
