"""Keeping the holds of live requests, and settling those of the dead."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import structlog

from farebox.metering.admission import LEASE, Grant
from farebox.metering.connection import MeterConnection
from farebox.metering.durability import Durability

SWEEP_LIMIT = 500

CHECKPOINT = "SELECT farebox_checkpoint($1, $2, $3, $4, $5, $6) AS request_id"
SWEEP = "SELECT * FROM farebox_sweep($1, $2)"

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
        durability: Durability,
        restart_grace: timedelta,
    ) -> None:
        self._connection = connection
        self._grants = grants
        self._durability = durability
        self._restart_grace = restart_grace

    async def checkpoint(self) -> None:
        """Renew the leases of all live requests."""
        grants = list(self._grants.values())
        if not grants:
            return
        kept = await checkpoint(self._connection, grants, self._durability)
        for grant in grants:
            if grant.request_id not in kept and not grant.settling:
                log.error("metering.lease_lost", request_id=str(grant.request_id))

    async def sweep(self) -> None:
        """Settle what dead replicas left behind."""
        while rows := await self._connection.fetch(SWEEP, SWEEP_LIMIT, self._restart_grace):
            for row in rows:
                log.warning(
                    "metering.swept",
                    request_id=str(row["request_id"]),
                    outcome=row["outcome"],
                    amount=row["amount"],
                )
            if len(rows) < SWEEP_LIMIT:
                return


async def checkpoint(
    connection: MeterConnection, grants: Sequence[Grant], durability: Durability
) -> set[UUID]:
    """Renew leases and record deliveries in one statement; the requests whose holds still stand."""
    newest = durability.newest
    rows = await connection.fetch(
        CHECKPOINT,
        LEASE,
        [g.request_id for g in grants],
        [g.delivered for g in grants],
        [g.input_tokens for g in grants],
        [g.cached_input_tokens for g in grants],
        [g.output_tokens for g in grants],
    )
    if rows:
        durability.advance(newest)
    return {row["request_id"] for row in rows}
