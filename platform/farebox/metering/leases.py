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
SELECT * FROM farebox_rehold($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""
# A lease that ends later than any can was given before the clock was set back. Its owner renews it, if it
# lives; if not, it ends a lease from now, and not when the clock has caught up.
FIND_EXPIRED = """
WITH ahead AS (
    UPDATE hold SET lease_expires_at = clock_timestamp() + $2::interval WHERE request_id IN (
        SELECT request_id FROM hold WHERE lease_expires_at > clock_timestamp() + 2 * $2::interval
        ORDER BY request_id FOR UPDATE SKIP LOCKED LIMIT $1
    )
)
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

    async def checkpoint(self) -> bool:
        """Renew the leases of all live requests, and record what each has delivered; whether it all is.

        A hold that is gone is reserved again, and what its request has delivered recorded there: nothing else
        tells whoever settles it.
        """
        recorded, lost = await self._renew_each(list(self._grants.values()))
        if not lost:
            return recorded
        restored: list[Grant] = []
        contended = await self._restore(lost, restored)
        again, gone = await self._renew_each(restored)
        return recorded and again and not contended and not gone

    async def _renew_each(self, grants: Sequence[Grant]) -> tuple[bool, list[Grant]]:
        """Whether all were asked for, and those whose hold is gone.

        One grant that Postgres refuses, as for a lock that somebody keeps, keeps no other from its lease.
        """
        lost: list[Grant] = []
        refused: list[Grant] = []

        def refuse(grant: Grant, error: Exception) -> None:
            refused.append(grant)
            log.error("metering.renewal_failed", request_id=str(grant.request_id), exc_info=error)

        if grants:
            await by_halves(
                grants,
                self._renew,
                narrow=asyncpg.PostgresError,
                done=lambda _, found: lost.extend(found),
                refused=refuse,
            )
        return not refused, lost

    async def _renew(self, grants: Sequence[Grant]) -> list[Grant]:
        """Those whose hold is gone."""
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
        return [g for g in grants if g.request_id not in kept and not g.settling and not g.lease_lost]

    async def _restore(self, lost: Sequence[Grant], restored: list[Grant]) -> bool:
        """Reserve again, as far as balance and caps reach, what a crash of Postgres took or a sweep voided;
        whether any has to wait for a lock. Those that another has settled meanwhile stay so, and are told.

        Else nobody but this process would know of the request.
        """
        rows = await self._connection.fetch(REHOLD, self._owner, LEASE, *rehold_arguments(lost))
        outcomes = {row["request_id"]: row["outcome"] for row in rows}
        for grant in lost:
            outcome = outcomes.get(grant.request_id)
            if outcome == "restored":
                log.warning("metering.hold_restored", request_id=str(grant.request_id))
                restored.append(grant)
            elif outcome is None:
                log.warning("metering.lease_lost", request_id=str(grant.request_id))
                grant.lose_lease()
        return "contended" in outcomes.values()

    async def sweep(self) -> None:
        """Settle what dead replicas left behind.

        Not before this connection has stood for the grace: when Postgres comes back, or another one
        takes over, every replica connects anew, and each needs the time to renew what it serves.
        """
        # Asked first: a replica that serves nothing connects by nothing else, and then has no age.
        rows = await self._connection.fetch(FIND_EXPIRED, SWEEP_LIMIT, LEASE)
        # What this process serves it renews at its next turn, however long this one took.
        expired = [row["request_id"] for row in rows if row["request_id"] not in self._grants]
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
