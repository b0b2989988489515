"""Receipts for what a settlement has booked."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import structlog

from farebox.core.clock import utc_now
from farebox.core.ids import external
from farebox.core.money import plain
from farebox.metering.backlog import Booked
from farebox.metering.receipts.batch import LATER, Receipt, ReceiptBatch, Sign
from farebox.metering.receipts.statement import Statement
from farebox.metering.settlement import Posting

log = structlog.get_logger(__name__)


class Submission(NamedTuple):
    """A posting on its way to Postgres, and the hash of the weights that answered."""

    posting: Posting
    model_sha256: str | None


def issue_receipts(
    batch: Sequence[Submission], booked: Sequence[Booked | None], sign: Sign
) -> list[Receipt | None]:
    """A receipt for each that was billed just now and as it was asked; LATER for one that was billed
    otherwise, or waits; None for one that was voided.

    Raises nothing: what is booked must not fail for lack of a receipt.
    """
    issued: list[Receipt | None] = [None if each.posting.status == "void" else LATER for each in batch]
    places = [
        place
        for place, (each, was) in enumerate(zip(batch, booked, strict=True))
        if was is not None and was.as_asked and each.posting.status != "void"
    ]
    if not places:
        return issued
    try:
        receipts = ReceiptBatch(_statements(batch, booked, places), sign)
    except Exception:
        log.exception("receipts.not_signed", receipts=len(places))
        return issued
    for index, place in enumerate(places):
        issued[place] = Receipt(receipts, index)
    return issued


def _statements(
    batch: Sequence[Submission], booked: Sequence[Booked | None], places: Sequence[int]
) -> list[Statement]:
    now = utc_now()
    billed = [(batch[place], booked[place]) for place in places]
    return [
        statement_of(each.posting, was.amount, each.model_sha256, now)
        for each, was in billed
        if was is not None
    ]


def statement_of(
    posting: Posting, amount: Decimal, model_sha256: str | None, issued_at: datetime
) -> Statement:
    """What a posting came to that was booked as it is."""
    return Statement(
        request_id=external("req", posting.request_id),
        organization_id=external("org", posting.organization_id),
        model=posting.model_id,
        model_sha256=model_sha256,
        input_tokens=posting.input_tokens,
        cached_input_tokens=posting.cached_input_tokens,
        output_tokens=posting.output_tokens,
        items=posting.items if posting.status == "completed" else 0,
        price_id=external("price", posting.price.id),
        amount=plain(amount, posting.price.currency),
        currency=posting.price.currency,
        issued_at=issued_at,
    )
