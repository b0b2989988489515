"""The gate in front of a request: cheap, and before anything of its body is read."""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar
from uuid import UUID

from litestar.types import Scope

from farebox.core.bodies import LARGE_BODY_BYTES, announced_bytes
from farebox.core.errors import FareboxError, Unauthenticated, Unavailable
from farebox.core.fair_threads import FairThreads
from farebox.core.settings import Settings
from farebox.gateway.errors import NothingLeft, TooManyPending
from farebox.gateway.gate.purses import EmptyPurse, Purses
from farebox.gateway.gate.refused_work import RefusedWork
from farebox.keys.errors import InsufficientScope, InvalidApiKey
from farebox.keys.standing import READ_STANDINGS, Standing, read_standings, standing_arguments
from farebox.keys.tokens import KeyClaims
from farebox.metering.batcher import GroupCommit
from farebox.metering.connection import MeterConnection
from farebox.metering.errors import ModelNotFound, QuotaExceeded

R = TypeVar("R")

SCOPE = "inference"

# The prompt of such a body is tokenised in a millisecond, about what the way to a thread and back takes.
SMALL_BODY_BYTES = 4_096

# Of bodies that were not admitted yet, for each key and organization.
MAX_PENDING_BYTES = 32_000_000

# Behind one address many keys may be at home. It is nobody's, and is not told.
ADDRESS = "address"
ADDRESS_SHARES = 4

# Keys that are known to live. When it is full, all are read again.
KNOWN_KEYS = 16_384


@dataclass(slots=True)
class Pending:
    """What of one key, organization or address is on its way to admission."""

    who: Hashable
    scope: str
    requests: int = 0
    body_bytes: int = 0

    @property
    def shares(self) -> int:
        return ADDRESS_SHARES if self.scope == ADDRESS else 1

    def refusal(self, limit: str) -> TooManyPending:
        """What is said where no more may be pending."""
        return TooManyPending(limit, self.scope, self.who if isinstance(self.who, UUID) else None)


class Gate:
    """Bounds the requests before their admission, and what may be refused, for each who asks.

    Kept in this process: what is bounded here is its own memory and time. Keys are read in batches, over a
    connection that nothing else waits for. `clock` is the buckets'.
    """

    def __init__(
        self, settings: Settings, database_url: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_pending = settings.pending_requests_per_key
        self._refused = RefusedWork(settings.refused_requests_per_minute, clock)
        self._pending: dict[Hashable, Pending] = {}
        # The digests of tokens whose row was good, and that were not refused since.
        self._known: set[bytes] = set()
        self._connection = MeterConnection(database_url)
        self._standings = GroupCommit[KeyClaims, Standing | None](self._read)
        self.purses = Purses(self._connection)

    def visit(self, claims: KeyClaims, scope: Scope) -> "Visit":
        """A request on its way to admission, to be entered. Raises TooManyRefusals."""
        self.check(claims)
        client = scope.get("client")
        return Visit(self, claims, client[0] if client else "", announced_bytes(scope))

    def check(self, claims: KeyClaims) -> None:
        """Raises TooManyRefusals where what was refused has cost too much already."""
        self._refused.check(claims)

    async def close(self) -> None:
        await self._standings.drain()
        await self.purses.drain()
        await self._connection.close()

    def knows(self, claims: KeyClaims) -> bool:
        """Whether the key's row was good when it was last read here, and nothing told otherwise since."""
        return claims.digest in self._known

    async def standing_of(self, claims: KeyClaims) -> Standing:
        """What the key's row says now. Raises InvalidApiKey, InsufficientScope and Unavailable."""
        standing = await self._standings.submit(claims)
        if standing is None:
            raise InvalidApiKey
        if SCOPE not in standing.scopes:
            raise InsufficientScope(SCOPE)
        if len(self._known) >= KNOWN_KEYS:
            self._known.clear()
        self._known.add(claims.digest)
        return standing

    def enter(self, who: Hashable, scope: str, body_bytes: int) -> Pending:
        """Count a request as pending. Raises TooManyPending."""
        pending = self._pending.get(who)
        if pending is None:
            pending = self._pending[who] = Pending(who, scope)
        elif pending.requests >= pending.shares * self._max_pending:
            raise pending.refusal("pending_requests")
        else:
            _check_room(pending, body_bytes)
        pending.requests += 1
        pending.body_bytes += body_bytes
        return pending

    def leave(self, pending: Pending, body_bytes: int) -> None:
        """Count it no more."""
        pending.requests -= 1
        pending.body_bytes -= body_bytes
        if not pending.requests:
            del self._pending[pending.who]

    def note_refusal(self, claims: KeyClaims, error: FareboxError, seconds: float = 0.0) -> None:
        """Count a refusal, and the seconds of threads that came before it, and remember what it was for."""
        self._refused.note(claims, error, seconds)
        if isinstance(error, Unauthenticated):
            self._known.discard(claims.digest)
        elif isinstance(error, QuotaExceeded | NothingLeft) and error.scope_id is not None:
            self.purses.note_shortage(error.scope_id)

    async def _read(self, keys: Sequence[KeyClaims]) -> list[Standing | None]:
        rows = await self._connection.fetch(READ_STANDINGS, *standing_arguments(keys))
        return read_standings(keys, rows)


def _check_room(pending: Pending, body_bytes: int) -> None:
    if pending.body_bytes + body_bytes > pending.shares * MAX_PENDING_BYTES:
        raise pending.refusal("pending_bytes")


class Visit:
    """A request until it is admitted or refused: who asks, how large it is, and what its key may do.

    It counts as its key's and its address's at once, as its organization's once it has joined.
    """

    __slots__ = (
        "_address",
        "_away",
        "_counted",
        "_gate",
        "_joined",
        "_purse",
        "_seconds",
        "_standing",
        "body_bytes",
        "claims",
        "purse_first",
        "row_first",
    )

    def __init__(self, gate: Gate, claims: KeyClaims, address: str, announced: int | None) -> None:
        """`announced` is the body's size in bytes, None where it does not say."""
        self._gate = gate
        self._standing: Standing | None = None
        self._away: Unavailable | None = None
        self._purse: EmptyPurse | None = None
        # That threads have worked for it.
        self._seconds = 0.0
        self._counted: list[Pending] = []
        self._joined = False
        self._address = address
        self.claims = claims
        # What was announced, and what is there if that is more.
        self.body_bytes = announced or 0
        # Whether the body may cost so much that it is asked first whether there is any money for it; and
        # whether the row is to be read before the body.
        costly = announced is None or announced > LARGE_BODY_BYTES
        self.purse_first = costly or gate.purses.was_empty(claims)
        self.row_first = self.purse_first or not gate.knows(claims)

    @property
    def tenant(self) -> UUID:
        return self.claims.organization_id

    @property
    def small(self) -> bool:
        """Whether all that the body, which is there, can cost before its admission is next to nothing."""
        return self.body_bytes <= SMALL_BODY_BYTES

    def note_body(self, size: int) -> None:
        """So many bytes of the body are there. Raises TooManyPending where there is no room for more."""
        more = size - self.body_bytes
        if more <= 0:
            return
        for pending in self._counted:
            _check_room(pending, more)
        for pending in self._counted:
            pending.body_bytes += more
        self.body_bytes = size

    async def join(self) -> None:
        """Count as the organization's too. Twice changes nothing.

        Only what a living key asks does: whoever found a revoked one must not fill the share of those who
        revoked it. Raises TooManyPending, and what `authorise` raises.
        """
        if self._joined:
            return
        if not self._gate.knows(self.claims):
            await self.authorise()
        self._counted.append(self._gate.enter(self.claims.organization_id, "organization", self.body_bytes))
        self._joined = True

    async def authorise(self) -> Standing:
        """Read the key's row, once. Raises InvalidApiKey, InsufficientScope and Unavailable.

        A Postgres that does not answer is waited for once. Who asks again, to tell what else is wrong, is
        told the same at once.
        """
        if self._away is not None:
            raise self._away
        if self._standing is None:
            try:
                self._standing = await self._gate.standing_of(self.claims)
            except Unavailable as error:
                self._away = error
                raise
        return self._standing

    async def open_purse(self) -> None:
        """See whether there can be money for it, if that is to be asked first.

        Raises NothingLeft and Unavailable.
        """
        if self.purse_first:
            self._purse = await self._gate.purses.read(self.claims)
        if self._purse is not None:
            self._purse.check()

    async def require(self, model_id: str) -> None:
        """Raises what `authorise` raises, and ModelNotFound for what the key must not know of."""
        if not (await self.authorise()).may_call(model_id):
            raise ModelNotFound(model_id)

    async def require_payable(self, model_id: str) -> None:
        """Raises what `require` raises, and NothingLeft for a model that an empty purse cannot pay for."""
        await self.require(model_id)
        if self._purse is not None:
            self._purse.check_model(model_id)

    async def run(self, threads: FairThreads, work: Callable[[], R]) -> R:
        """The result of `work` in a thread. If the request is refused in the end, its seconds count.

        Raises TooManyRefusals where, until its turn comes, what was refused has cost too much already.
        """
        return await threads.run(self.tenant, work, check=self._check, spent=self._count)

    def _check(self) -> None:
        self._gate.check(self.claims)

    def _count(self, seconds: float) -> None:
        self._seconds += seconds

    def end(self) -> None:
        """The request is admitted: from now on its hold counts it. Twice changes nothing."""
        for pending in self._counted:
            self._gate.leave(pending, self.body_bytes)
        self._counted.clear()

    def __enter__(self) -> "Visit":
        """Raises TooManyPending."""
        try:
            for who, scope in ((self.claims.key_id, "key"), (self._address, ADDRESS)):
                self._counted.append(self._gate.enter(who, scope, self.body_bytes))
        except TooManyPending:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if isinstance(error, FareboxError):
            self._gate.note_refusal(self.claims, error, self._seconds)
