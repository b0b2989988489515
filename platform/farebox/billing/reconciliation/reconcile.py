"""Reconciliation: one number everywhere, or the difference by name.

usage events and amendments = sums by hour and by minute = ledger = balances, reserved and spent = seals.
"""

import asyncio
import time
from collections.abc import Iterator
from datetime import datetime
from uuid import UUID

import msgspec

from farebox.billing.reconciliation.books import Books, Check, Finding
from farebox.billing.reconciliation.scopes import reservations, spending
from farebox.billing.reconciliation.seals import seals
from farebox.billing.reconciliation.sums import hours, minutes
from farebox.billing.reconciliation.transfers import balances, requests, revenues
from farebox.core.database import Database

# What is compared. Those that take longest come first, for the two connections to share the rest.
CHECKS: tuple[Check, ...] = (seals, requests, hours, balances, revenues, minutes, spending, reservations)


class Reconciled(msgspec.Struct, frozen=True):
    """How the books compare, check by check."""

    seconds: float
    findings: list[Finding]

    @property
    def differences(self) -> int:
        return sum(each.count for each in self.findings)


async def reconcile(
    database: Database,
    organization_id: UUID | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    checks: tuple[Check, ...] = CHECKS,
) -> Reconciled:
    """Compare all books as they are at one moment. `start` and `end` are whole hours.

    Two connections share the work and see the same moment. Raises Unavailable.
    """
    began = time.monotonic()
    pending, findings = iter(checks), list[Finding]()
    async with database.long_reading() as first:
        snapshot = await first.fetchval("SELECT pg_export_snapshot()")
        async with database.long_reading(snapshot) as second:
            books = [Books(each, organization_id, start, end) for each in (first, second)]
            await asyncio.gather(*(_work_off(pending, each, findings) for each in books))
    return Reconciled(time.monotonic() - began, findings)


async def _work_off(pending: Iterator[Check], books: Books, findings: list[Finding]) -> None:
    for check in pending:
        findings.append(await check(books))
