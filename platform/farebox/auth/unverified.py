"""Accounts whose address nobody confirmed: they stand in the way of the address's owner."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.billing.ledger import organizations_with_transfers
from farebox.core.database import Database
from farebox.keys.holders import organizations_with_keys, revoke_keys_of_user
from farebox.limits.balances import lock_scopes
from farebox.tenants.members import organizations_of
from farebox.tenants.unverified import delete_account, find_unverified, is_unverified, lock_account
from farebox.usage.queries import organizations_with_usage

KEPT = timedelta(days=7)
_BATCH = 100

_log = structlog.get_logger(__name__)


async def remove_unverified(session: AsyncSession) -> int:
    """Remove a batch of those older than KEPT; returns how many. Under `Database.meter_transaction()`.

    For production only, where nobody can have signed in to one. An account goes if it has nothing but
    the organization of its sign-up, and that no other member, project, key, balance or usage.
    """
    removed, last = 0, None
    while removed < _BATCH:
        found = await find_unverified(session, older_than=KEPT, after=last, limit=_BATCH - removed)
        if not found:
            break
        last = found[-1]
        kept = await _missed(session, [each for account in found for each in account.organization_ids])
        for account in found:
            if kept.isdisjoint(account.organization_ids):
                removed += await _remove(session, account.user_id)
    if removed:
        _log.info("accounts.unverified_removed", number=removed)
    return removed


async def _missed(session: AsyncSession, organization_ids: Sequence[UUID]) -> set[UUID]:
    """Those of the organizations that have keys, money or usage, which somebody may miss."""
    return (
        await organizations_with_keys(session, organization_ids)
        | await organizations_with_transfers(session, organization_ids)
        | await organizations_with_usage(session, organization_ids)
    )


async def _remove(session: AsyncSession, user_id: UUID) -> bool:
    """Lock everything that somebody else could hang something on, look again, and only then delete."""
    organization_ids = await lock_account(session, user_id)
    await lock_scopes(session, organization_ids)
    if not await is_unverified(session, user_id, older_than=KEPT):
        return False
    if await _missed(session, organization_ids):
        return False
    await delete_account(session, user_id, organization_ids)
    return True


async def revoke_keys_made_before_verification(database: Database, user_id: UUID) -> None:
    """End the keys of an account whose mailbox was proved for the first time, by a reset.

    Whoever signed up may have been a stranger, whom development lets in unconfirmed.
    """
    async with database.transaction(user_id=user_id) as session:
        organization_ids = await organizations_of(session, user_id)
    for organization_id in organization_ids:
        async with database.transaction(organization_id=organization_id) as session:
            await revoke_keys_of_user(session, organization_id=organization_id, user_id=user_id)
