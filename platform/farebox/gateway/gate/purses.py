"""Whether there can be money for a request, whatever it asks for: read before the work, not after it."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from farebox.gateway.errors import NothingLeft
from farebox.keys.tokens import KeyClaims
from farebox.metering.batcher import GroupCommit
from farebox.metering.connection import MeterConnection

# A row for each key that can pay for nothing, with the first scope that admission would name: all of its
# balance and credit line, or of its cap, is spent or reserved. And the models whose price for it may let a
# prompt cost nothing: its contract's, its plan's, else everybody's. To be run as `farebox_meter`; locks
# nothing.
READ_EMPTY_PURSES = """
SELECT
    k.id AS key_id, s.kind, s.id, s.failed_limit,
    ARRAY(
        SELECT m.id FROM model m
        CROSS JOIN LATERAL applicable_price(m.id, k.organization_id, o.plan_id, clock_timestamp()) AS price
        WHERE m.removed_at IS NULL AND (
            greatest(price.input_per_million, price.cached_input_per_million) = 0
            OR EXISTS (
                SELECT FROM price_tier t
                WHERE t.price_id = price.id AND t.token_class = 'input' AND t.per_million = 0
            )
        )
    ) AS free_models
FROM api_key k
JOIN meter_scope o ON o.id = k.organization_id
CROSS JOIN LATERAL (
    SELECT
        id, kind,
        CASE WHEN balance + credit_line <= reserved THEN 'balance' ELSE 'monthly_cap' END AS failed_limit
    FROM meter_scope
    WHERE id IN (k.id, k.project_id, k.organization_id) AND (
        balance + credit_line <= reserved
        OR monthly_cap <= reserved + CASE
            WHEN spend_month < date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC') THEN 0
            ELSE spent
        END
    )
    ORDER BY array_position(ARRAY[k.id, k.project_id, k.organization_id], id) LIMIT 1
) s
WHERE k.id = ANY ($1::uuid[])
"""

# Of whom it is remembered that money was short. When it is full, all are forgotten.
REMEMBERED = 16_384


class EmptyPurse(msgspec.Struct, frozen=True):
    """What a key that can pay for nothing is told; models that cost nothing it may call."""

    limit: str
    scope: str
    scope_id: UUID
    free_models: frozenset[str]

    def check(self) -> None:
        """Raises NothingLeft where every model costs something."""
        if not self.free_models:
            raise self._refusal()

    def check_model(self, model_id: str) -> None:
        """Raises NothingLeft where this model costs something."""
        if model_id not in self.free_models:
            raise self._refusal()

    def _refusal(self) -> NothingLeft:
        return NothingLeft(self.limit, self.scope, self.scope_id)


class Purses:
    """Reads purses in batches, and remembers of whom to read them: whose requests money refused.

    What is remembered decides what is read first, never what is answered. So whoever gets money is heard at
    once.
    """

    def __init__(self, connection: MeterConnection) -> None:
        self._connection = connection
        self._reading = GroupCommit[KeyClaims, EmptyPurse | None](self._read)
        self._short: set[UUID] = set()

    def was_empty(self, claims: KeyClaims) -> bool:
        """Whether a request of the key, its project or its organization found too little money lately."""
        return not self._short.isdisjoint(_scopes(claims))

    def note_shortage(self, scope_id: UUID) -> None:
        """Money refused a request: the key's, the project's or the organization's of this id."""
        if len(self._short) >= REMEMBERED:
            self._short.clear()
        self._short.add(scope_id)

    async def read(self, claims: KeyClaims) -> EmptyPurse | None:
        """The key's purse if nothing is in it. Raises Unavailable."""
        found = await self._reading.submit(claims)
        if found is None:
            self._short.difference_update(_scopes(claims))
        return found

    async def drain(self) -> None:
        """Return when nothing is being read."""
        await self._reading.drain()

    async def _read(self, keys: Sequence[KeyClaims]) -> list[EmptyPurse | None]:
        rows = await self._connection.fetch(READ_EMPTY_PURSES, [key.key_id for key in keys])
        found = {
            row["key_id"]: EmptyPurse(
                row["failed_limit"], row["kind"], row["id"], frozenset(row["free_models"])
            )
            for row in rows
        }
        return [found.get(key.key_id) for key in keys]


def _scopes(claims: KeyClaims) -> tuple[UUID, UUID, UUID]:
    return claims.key_id, claims.project_id, claims.organization_id
