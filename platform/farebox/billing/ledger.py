"""The ledger: amounts that moved between accounts, each transfer balanced by construction, none ever changed.

Each organization has these accounts. What is usual for them:

===============  ==================================================================================
cash             money of the payer's that came in, or went back
prepaid          what was paid in and is not used: the operator owes it
promotional      credit that was given and is not used
receivable       what was used on the credit line and is not paid
revenue:<model>  what was used of a model; `revenue:<name> plan` for a plan's fee
promotion        what promotional credit has cost the operator
tax              collected for the state
processor_fees   what the payment processor kept
refunds          on their way back to the payer
disputed         taken back by the payer's bank
rounding         what an invoice's lines round away, or up
===============  ==================================================================================

The balance that admission works with is prepaid + promotional - receivable. It is kept on the organization's
scope (`meter_scope.balance`), and the promotional part of it beside it (`meter_scope.promotional`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from uuid import UUID, uuid5

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.errors import OtherTransfer
from farebox.billing.models import LedgerTransfer

WALLET = ("prepaid", "promotional", "receivable")

_BALANCES = text("""
SELECT account, sum(amount) AS amount FROM (
    SELECT credit_account AS account, amount FROM ledger_transfer WHERE organization_id = :organization
    UNION ALL
    SELECT debit_account, -amount FROM ledger_transfer WHERE organization_id = :organization
) leg
GROUP BY account
""")


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """An amount (above zero) from one account to another.

    `reference` is the caller's name for it, unique within the organization: the transfer's id is made from
    it, so that entering it again does nothing. `reason` is for people.
    """

    kind: str
    debit_account: str
    credit_account: str
    amount: Decimal
    currency: str
    reference: str
    reason: str | None = None

    def id_for(self, organization_id: UUID) -> UUID:
        return uuid5(organization_id, self.reference)


async def enter(session: AsyncSession, organization_id: UUID, transfer: Transfer) -> bool:
    """Into the ledger; False when it is there. The caller holds the organization's scope locked.

    Raises OtherTransfer when the reference is another transfer's.
    """
    added = await session.scalar(
        insert(LedgerTransfer)
        .values(id=transfer.id_for(organization_id), organization_id=organization_id, **asdict(transfer))
        .on_conflict_do_nothing(index_elements=["organization_id", "reference"])
        .returning(LedgerTransfer.id)
    )
    if added is not None:
        return True
    before = await session.scalar(
        select(LedgerTransfer).where(
            LedgerTransfer.organization_id == organization_id, LedgerTransfer.reference == transfer.reference
        )
    )
    if before is None:
        raise OtherTransfer(transfer.reference, "organization's entry")
    accounts = (before.kind, before.debit_account, before.credit_account)
    if accounts != (transfer.kind, transfer.debit_account, transfer.credit_account):
        raise OtherTransfer(transfer.reference, "entry")
    if (before.amount, before.currency) != (transfer.amount, transfer.currency):
        raise OtherTransfer(transfer.reference, "amount")
    return False


async def was_entered(session: AsyncSession, organization_id: UUID, *references: str) -> bool:
    """Whether there is a transfer of any of these references."""
    query = select(LedgerTransfer.id).where(
        LedgerTransfer.organization_id == organization_id, LedgerTransfer.reference.in_(references)
    )
    return await session.scalar(query.limit(1)) is not None


async def account_balances(session: AsyncSession, organization_id: UUID) -> Mapping[str, Decimal]:
    """What each account holds: credits less debits, so that all of them add up to zero."""
    rows = await session.execute(_BALANCES, {"organization": organization_id})
    return {row.account: row.amount for row in rows}


async def ledger_balance(session: AsyncSession, organization_id: UUID) -> Decimal:
    """The balance as the ledger tells it; always equal to the one admission works with."""
    held = await account_balances(session, organization_id)
    return sum((held.get(account, Decimal(0)) for account in WALLET), Decimal(0))


async def organizations_with_transfers(session: AsyncSession, organization_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the organizations that have moved money."""
    column = LedgerTransfer.organization_id
    return set(await session.scalars(select(column).where(column.in_(organization_ids)).distinct()))
