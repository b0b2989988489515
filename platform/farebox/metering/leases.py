"""Keeping the holds of live requests, and settling those of the dead."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from farebox.metering.admission import LEASE, Grant
from farebox.metering.connection import MeterConnection
from farebox.metering.halving import by_halves
from farebox.metering.settlement import rehold_arguments

SWEEP_LIMIT = 500

CHECKPOINT = "SELECT farebox_checkpoint($1, $2, $3, $4, $5, $6) AS request_id"
REHOLD = """
SELECT farebox_rehold($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) AS request_id
"""
FIND_EXPIRED = """
SELECT request_id FROM hold WHERE lease_expires_at < clock_timestamp() ORDER BY request_id LIMIT $1
"""
SWEEP = "SELECT * FROM farebox_sweep($1)"

log = structlog.get_logger(__name__)


class Leases:
    """The meter's two duties towards holds, once a second each.

    One statement renews every lease and records what each request has delivered; then holds whose
    lease ran out, of whatever replica, are settled at what they last recorded.
    """

    def __init__(
        self,
        connection: MeterConnection,
        grants: Mapping[UUID, Grant],
        owner: UUID,
        sweep_grace: timedelta,
    ) -> None:
        self._owner = owner
        self._connection = connection
        self._grants = grants
        self._sweep_grace = sweep_grace

    async def checkpoint(self) -> None:
        """Renew the leases of all live requests, and record what each has delivered."""
        grants = list(self._grants.values())
        if not grants:
            return
        rows = await self._connection.fetch(
            CHECKPOINT,
            LEASE,
            [g.request_id for g in grants],
            [g.delivered for g in grants],
            [g.input_tokens for g in grants],
            [g.cached_input_tokens for g in grants],
            [g.output_tokens for g in grants],
        )
        kept = {row["request_id"] for row in rows}
        lost = [g for g in grants if g.request_id not in kept and not g.settling and not g.lease_lost]
        if lost:
            await self._restore(lost)

    async def _restore(self, lost: Sequence[Grant]) -> None:
        """Reserve again, as far as balance and caps reach, what a crash of Postgres took or a sweep voided.

        Else nobody but this process would know of the request. One that was settled meanwhile stays so.
        """
        rows = await self._connection.fetch(REHOLD, self._owner, LEASE, *rehold_arguments(lost))
        restored = {row["request_id"] for row in rows}
        for grant in lost:
            grant.lease_lost = grant.request_id not in restored
            event = "metering.lease_lost" if grant.lease_lost else "metering.hold_restored"
            log.warning(event, request_id=str(grant.request_id))

    async def sweep(self) -> None:
        """Settle what dead replicas left behind.

        Not before this connection has stood for the grace: when Postgres comes back, or another one
        takes over, every replica connects anew, and each needs the time to renew what it serves.
        """
        # Asked first: a replica that serves nothing connects by nothing else, and then has no age.
        expired = [row["request_id"] for row in await self._connection.fetch(FIND_EXPIRED, SWEEP_LIMIT)]
        if expired and self._connection.age >= self._sweep_grace.total_seconds():
            await by_halves(
                expired,
                partial(self._connection.fetch, SWEEP),
                narrow=asyncpg.PostgresError,
                done=_log_swept,
                refused=_log_refusal,
            )


def _log_swept(_: Sequence[UUID], rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        log.warning(
            "metering.swept",
            request_id=str(row["request_id"]),
            outcome=row["outcome"],
            amount=row["amount"],
        )


def _log_refusal(request_id: UUID, error: Exception) -> None:
    log.error("metering.sweep_failed", request_id=str(request_id), exc_info=error)
