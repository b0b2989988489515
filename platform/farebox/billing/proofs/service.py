"""Receipts and proofs of what is sealed, for whose it is. Sessions see one organization alone."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.offers import weights_between
from farebox.billing.proofs.schemas import ProofAnswer, ReceiptAnswer
from farebox.core.clock import utc_now
from farebox.core.ids import external
from farebox.core.money import plain
from farebox.keys.receipt_keys import ReceiptKeys
from farebox.metering.models import UsageAmendment, UsageEvent
from farebox.metering.receipts.batch import ReceiptBatch
from farebox.metering.receipts.statement import Statement
from farebox.metering.seals.proofs import find_entries, require_sealed, sealed_entries

# Servers take up new weights when they have loaded them, and finish on the former ones what is under way.
CHANGEOVER = timedelta(hours=1)


async def prove(
    session: AsyncSession, keys: ReceiptKeys, organization_id: UUID, request_id: UUID
) -> ProofAnswer:
    """That the request is in a sealed hour. Raises as `sealed_entries`."""
    sealed = await sealed_entries(session, organization_id, request_id)
    return ProofAnswer(
        request_id=external("req", request_id),
        entries=sealed.proofs,
        chain=sealed.chain,
        seal=keys.sign_seal(msgspec.json.encode(sealed.newest)),
    )


async def make_receipt(
    session: AsyncSession, keys: ReceiptKeys, organization_id: UUID, request_id: UUID
) -> ReceiptAnswer:
    """A receipt from the books, also of what had none when it was answered.

    Raises as `sealed_entries`.
    """
    event, amendment = await find_entries(session, organization_id, request_id)
    entries: Sequence[UsageEvent | UsageAmendment] = [event] if amendment is None else [event, amendment]
    await require_sealed(session, entries)
    weights = await weights_between(session, event.model_id, event.admitted_at - CHANGEOVER, event.created_at)
    statement = Statement(
        request_id=external("req", request_id),
        organization_id=external("org", organization_id),
        model=event.model_id,
        model_sha256=weights,
        input_tokens=sum(each.input_tokens for each in entries),
        cached_input_tokens=sum(each.cached_input_tokens for each in entries),
        output_tokens=sum(each.output_tokens for each in entries),
        items=sum(each.items for each in entries),
        price_id=external("price", event.price_id),
        amount=plain(sum((each.amount for each in entries), Decimal(0)), event.currency),
        currency=event.currency,
        issued_at=utc_now(),
    )
    receipt = ReceiptBatch([statement], keys.sign_root).text(0)
    return ReceiptAnswer(request_id=external("req", request_id), receipt=receipt)
