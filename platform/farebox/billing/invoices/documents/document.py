"""What an invoice, a statement or a credit note says: one struct, one canonical JSON.

It is frozen when it is numbered. Whatever shows a document (JSON, HTML, PDF) shows this and asks nothing
else: neither a new name nor a new price changes what was issued. Amounts are texts with all their digits,
never floats; dates are ISO 8601.
"""

from typing import Literal

import msgspec

from farebox.core.settings import Language

DocumentKind = Literal["invoice", "statement", "credit_note"]
Unit = Literal["1M tokens", "1M items", "1"]


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Who sells, or who is billed; `address` in lines."""

    name: str
    address: list[str] = []
    country: str | None = None
    tax_id: str | None = None
    email: str | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What was used of one class of a model's tokens, or of its items, in a project; or a fee.

    `exact_amount` is what the ledger has, `amount` the same rounded to what the currency can be paid in, half
    to even. `account` is where the ledger has it.
    """

    description: str
    project_id: str | None = None
    project: str | None = None
    model: str | None = None
    usage_class: Literal["input_tokens", "cached_input_tokens", "output_tokens", "items"] | None = None
    quantity: str
    unit: Unit
    unit_price: str | None
    exact_amount: str
    amount: str
    account: str


class Movements(msgspec.Struct, frozen=True, kw_only=True):
    """How the balance moved in the month, exactly: what came in is positive, what went is negative.

    `opening` and all movements add up to `closing`.
    """

    opening: str
    top_ups: str
    grants: str
    expiries: str
    usage: str
    fees: str
    other: str
    closing: str


class InvoiceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice, a statement or a credit note; one without a number is a draft.

    `exact_total` is the sum of the lines' exact amounts, `total` that of their amounts. `paid_from_balance`
    is the part of `total` that promotional credit and prepaid money paid; the rest is `amount_due`.
    """

    schema: Literal[1] = 1
    kind: DocumentKind
    number: str | None
    refers_to: str | None = None
    reason: str | None = None
    organization_id: str
    period_start: str
    period_end: str
    issued_on: str | None
    due_on: str | None
    currency: str
    language: Language
    issuer: Party
    customer: Party
    lines: list[Line]
    exact_total: str
    total: str
    paid_from_balance: str
    amount_due: str
    balance: Movements | None = None
    payment: str | None = None


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(InvoiceDocument)


def to_json(document: InvoiceDocument) -> str:
    """The canonical text: the same document has the same bytes."""
    return _encoder.encode(document).decode()


def from_json(text: str) -> InvoiceDocument:
    return _decoder.decode(text)
