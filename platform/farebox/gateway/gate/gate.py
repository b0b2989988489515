"""The gate in front of a request: cheap, and before anything of its body is read."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from types import TracebackType
from uuid import UUID

from litestar.types import Scope

from farebox.core.bodies import announced_bytes
from farebox.core.errors import FareboxError, Unauthenticated, Unavailable
from farebox.core.settings import Settings
from farebox.gateway.errors import TooManyPending, TooManyRefusals
from farebox.gateway.gate.refusal_buckets import RefusalBuckets
from farebox.keys.errors import InvalidApiKey
from farebox.keys.standing import READ_STANDINGS, Standing, read_standings, standing_arguments
from farebox.keys.tokens import KeyClaims
from farebox.metering.batcher import GroupCommit
from farebox.metering.connection import MeterConnection
from farebox.metering.errors import ModelNotFound

# A body of this size is decoded and tokenised faster than a thread or Postgres is asked: what it can cost
# is bounded. A larger one is looked at only after the key's row.
SMALL_BODY_BYTES = 2_000

# Of bodies that were not admitted yet, for each key and organization.
MAX_PENDING_BYTES = 32_000_000

# Behind one address many keys may be at home.
ADDRESS_SHARES = 4


@dataclass(slots=True)
class Pending:
    """What of one key, organization or address is on its way to admission."""

    requests: int = 0
    body_bytes: int = 0


class Gate:
    """Bounds the requests before their admission, and what may be refused, for each who asks.

    Kept in this process: what is bounded here is its own memory and time. Keys are read in batches, over a
    connection that nothing else waits for.
    """

    def __init__(self, settings: Settings, database_url: str) -> None:
        self._max_pending = settings.pending_requests_per_key
        self._refusals = RefusalBuckets(settings.refused_requests_per_minute)
        self._pending: dict[Hashable, Pending] = {}
        self._connection = MeterConnection(database_url)
        self._standings = GroupCommit[KeyClaims, Standing | None](self._read)

    def visit(self, claims: KeyClaims, scope: Scope) -> "Visit":
        """A request on its way to admission. Raises TooManyPending and TooManyRefusals."""
        for refused in (claims.organization_id, claims.key_id):
            if wait := self._refusals.wait_of(refused):
                raise TooManyRefusals(wait)
        client = scope.get("client")
        address = client[0] if client else ""
        size = announced_bytes(scope)
        for who, shares in ((claims.organization_id, 1), (claims.key_id, 1), (address, ADDRESS_SHARES)):
            pending = self._pending.get(who)
            if pending is not None and self._is_full(pending, size, shares):
                raise TooManyPending
        return Visit(self, claims, address, size)

    async def close(self) -> None:
        await self._standings.drain()
        await self._connection.close()

    async def standing_of(self, claims: KeyClaims) -> Standing:
        """What the key's row says now. Raises InvalidApiKey and Unavailable."""
        standing = await self._standings.submit(claims)
        if standing is None or "inference" not in standing.scopes:
            raise InvalidApiKey
        return standing

    def enter(self, visit: "Visit") -> None:
        """Count a request as pending."""
        for who in visit.counted:
            pending = self._pending.get(who)
            if pending is None:
                pending = self._pending[who] = Pending()
            pending.requests += 1
            pending.body_bytes += visit.body_bytes

    def leave(self, visit: "Visit") -> None:
        """Count it no more."""
        for who in visit.counted:
            pending = self._pending[who]
            pending.requests -= 1
            pending.body_bytes -= visit.body_bytes
            if not pending.requests:
                del self._pending[who]

    def note_refusal(self, claims: KeyClaims, error: FareboxError) -> None:
        """Take a refusal from the bucket of who caused it.

        A revoked key has one of its own: whoever found it must not stop the organization that revoked it.
        """
        if not isinstance(error, Unavailable):
            self._refusals.take(
                claims.key_id if isinstance(error, Unauthenticated) else claims.organization_id
            )

    def _is_full(self, pending: Pending, size: int, shares: int) -> bool:
        return (
            pending.requests >= shares * self._max_pending
            or pending.body_bytes + size > shares * MAX_PENDING_BYTES
        )

    async def _read(self, keys: Sequence[KeyClaims]) -> list[Standing | None]:
        rows = await self._connection.fetch(READ_STANDINGS, *standing_arguments(keys))
        return read_standings(keys, rows)


class Visit:
    """A request until it is admitted or refused: who asks, how large it is, and what its key may do."""

    __slots__ = ("_gate", "_pending", "_standing", "body_bytes", "claims", "counted")

    def __init__(self, gate: Gate, claims: KeyClaims, address: str, body_bytes: int) -> None:
        self._gate = gate
        self._standing: Standing | None = None
        self._pending = False
        self.claims = claims
        # Whose pending requests it is one of.
        self.counted = (claims.organization_id, claims.key_id, address)
        self.body_bytes = body_bytes

    @property
    def tenant(self) -> UUID:
        return self.claims.organization_id

    @property
    def small(self) -> bool:
        """Whether all that this request can cost before its admission is next to nothing."""
        return self.body_bytes <= SMALL_BODY_BYTES

    async def authorise(self) -> Standing:
        """Read the key's row, once. Raises InvalidApiKey and Unavailable."""
        if self._standing is None:
            self._standing = await self._gate.standing_of(self.claims)
        return self._standing

    async def require(self, model_id: str) -> None:
        """Raises InvalidApiKey, and ModelNotFound for what the key must not know of."""
        if not (await self.authorise()).may_call(model_id):
            raise ModelNotFound(model_id)

    def end(self) -> None:
        """The request is admitted: from now on its hold counts it. Twice changes nothing."""
        if self._pending:
            self._pending = False
            self._gate.leave(self)

    def __enter__(self) -> "Visit":
        self._pending = True
        self._gate.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if isinstance(error, FareboxError):
            self._gate.note_refusal(self.claims, error)
