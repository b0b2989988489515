"""Whole answers on their way to their clients: billed when they leave, credited when they do not arrive."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import structlog

from farebox.metering.admission import LEASE
from farebox.metering.connection import MeterConnection
from farebox.metering.halving import by_halves
from farebox.metering.settlement import Posting

CREDIT_LIMIT = 500
# In one transaction: it locks as many accounts.
CREDIT_BATCH = 50

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
# Of leases that a clock had given before it was set back, see `leases.FIND_EXPIRED`.
FIND_LEFT = """
WITH ahead AS (
    UPDATE handover SET lease_expires_at = clock_timestamp() + $2::interval WHERE request_id IN (
        SELECT request_id FROM handover WHERE lease_expires_at > clock_timestamp() + 2 * $2::interval
        ORDER BY request_id FOR UPDATE SKIP LOCKED LIMIT $1
    )
)
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
        self._on_their_way: dict[UUID, Posting] = {}
        self._over: dict[UUID, Posting] = {}

    @property
    def over(self) -> Collection[UUID]:
        """Those that have left for their clients, and of which Postgres does not know that yet."""
        return self._over.keys()

    @property
    def unconfirmed(self) -> list[Posting]:
        """Of these, those that Postgres has billed, as what has left: for who adopts a note of them."""
        billed = [posting for each, posting in self._over.items() if each not in self._unsettled]
        return [msgspec.structs.replace(posting, handed_over=True) for posting in billed]

    def expect(self, posting: Posting) -> None:
        """It is being settled, and on its way from then on."""
        self._on_their_way[posting.request_id] = posting

    def end(self, request_id: UUID, *, reached: bool) -> bool:
        """It has left for its client, or nobody was there to take it. Whether it will be credited."""
        posting = self._on_their_way.pop(request_id, None)
        if posting is None:
            return False
        if reached:
            self._over[request_id] = posting
        return not reached

    async def record(self) -> None:
        """Tell Postgres. What it refuses, as for a lock that somebody keeps, is told the next time.

        Raises Unavailable.
        """
        over = [each for each in self._over if each not in self._unsettled]
        # What waits for its settlement may have a row already, if the answer to a try got lost.
        kept = [*self._on_their_way, *(each for each in self._over if each in self._unsettled)]
        if (over or kept) and await _hand_over(self._connection, over, kept):
            for each in over:
                self._over.pop(each, None)  # two turns may record at the same time

    async def sweep(self) -> None:
        """Credit what did not leave. Not before the grace of `Leases.sweep`, for the same reason."""
        rows = await self._connection.fetch(FIND_LEFT, CREDIT_LIMIT, LEASE)
        mine = self._on_their_way.keys() | self._over.keys()
        left = [row["request_id"] for row in rows if row["request_id"] not in mine]
        if self._connection.age < self._sweep_grace.total_seconds():
            return
        for start in range(0, len(left), CREDIT_BATCH):
            await by_halves(
                left[start : start + CREDIT_BATCH],
                partial(self._connection.fetch, CREDIT),
                narrow=asyncpg.PostgresError,
                done=_log_credited,
                refused=_log_refusal,
            )


async def confirm_left(connection: MeterConnection, request_ids: Sequence[UUID]) -> bool:
    """Tell Postgres that these have left for their clients, of whatever process; whether it took that.

    Raises Unavailable.
    """
    return not request_ids or await _hand_over(connection, request_ids, ())


async def _hand_over(connection: MeterConnection, over: Sequence[UUID], kept: Sequence[UUID]) -> bool:
    try:
        await connection.fetch(HAND_OVER, LEASE, over, kept)
    except asyncpg.PostgresError:
        log.exception("metering.confirmation_failed", requests=len(over) + len(kept))
        return False
    return True


def _log_credited(_: Sequence[UUID], rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        log.warning("metering.credited", request_id=str(row["request_id"]), amount=row["amount"])


def _log_refusal(request_id: UUID, error: Exception) -> None:
    log.error("metering.credit_failed", request_id=str(request_id), exc_info=error)
