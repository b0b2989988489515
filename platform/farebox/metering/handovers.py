"""Whole answers on their way to their clients: billed when they leave, credited when they do not arrive."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from farebox.metering.admission import LEASE
from farebox.metering.connection import MeterConnection
from farebox.metering.halving import by_halves

CREDIT_LIMIT = 500

# Rows by request id, as `farebox_credit` takes them.
HAND_OVER = """
WITH taken AS (
    SELECT request_id FROM handover WHERE request_id = ANY ($2::uuid[] || $3) ORDER BY request_id FOR UPDATE
), over AS (
    DELETE FROM handover h USING taken t WHERE h.request_id = t.request_id AND t.request_id = ANY ($2)
)
UPDATE handover h SET lease_expires_at = clock_timestamp() + $1::interval FROM taken t
WHERE h.request_id = t.request_id AND t.request_id = ANY ($3::uuid[])
"""
FIND_LEFT = """
SELECT request_id FROM handover WHERE lease_expires_at < clock_timestamp() ORDER BY request_id LIMIT $1
"""
CREDIT = "SELECT * FROM farebox_credit($1)"

log = structlog.get_logger(__name__)


class Handovers:
    """The meter's duty towards whole answers, once a second.

    Settling one leaves a row in `handover`, with a lease. One statement takes away the rows of all that have
    left for their clients, and renews those of the others. What nobody renews, as of a client that had gone
    or a server that died, is credited when its lease has run out, by whatever replica.
    """

    def __init__(
        self, connection: MeterConnection, unsettled: Collection[UUID], sweep_grace: timedelta
    ) -> None:
        self._connection = connection
        self._unsettled = unsettled
        self._sweep_grace = sweep_grace
        self._on_their_way: set[UUID] = set()
        self._over: set[UUID] = set()

    @property
    def over(self) -> Collection[UUID]:
        """Those that have left for their clients, and of which Postgres does not know that yet."""
        return self._over

    def expect(self, request_id: UUID) -> None:
        """It is being settled, and on its way from then on."""
        self._on_their_way.add(request_id)

    def end(self, request_id: UUID, *, reached: bool) -> bool:
        """It has left for its client, or nobody was there to take it. Whether it will be credited."""
        if request_id not in self._on_their_way:
            return False
        self._on_their_way.remove(request_id)
        if reached:
            self._over.add(request_id)
        return not reached

    async def record(self) -> None:
        """Tell Postgres. Raises Unavailable."""
        over = [each for each in self._over if each not in self._unsettled]
        if over or self._on_their_way:
            await self._connection.fetch(HAND_OVER, LEASE, over, list(self._on_their_way))
            self._over.difference_update(over)

    async def sweep(self) -> None:
        """Credit what did not leave. Not before the grace of `Leases.sweep`, for the same reason."""
        rows = await self._connection.fetch(FIND_LEFT, CREDIT_LIMIT)
        mine = self._on_their_way | self._over
        left = [row["request_id"] for row in rows if row["request_id"] not in mine]
        if left and self._connection.age >= self._sweep_grace.total_seconds():
            await by_halves(
                left,
                partial(self._connection.fetch, CREDIT),
                narrow=asyncpg.PostgresError,
                done=_log_credited,
                refused=_log_refusal,
            )


def _log_credited(_: Sequence[UUID], rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        log.warning("metering.credited", request_id=str(row["request_id"]), amount=row["amount"])


def _log_refusal(request_id: UUID, error: Exception) -> None:
    log.error("metering.credit_failed", request_id=str(request_id), exc_info=error)
