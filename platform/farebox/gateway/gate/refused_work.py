"""What refused requests have cost, of each key and each organization, and how much more they may."""

from collections.abc import Callable

from farebox.core.bodies import ClientGone
from farebox.core.errors import FareboxError, Unauthenticated, Unavailable
from farebox.gateway.errors import TooManyPending, TooManyRefusals
from farebox.gateway.gate.refusal_buckets import RefusalBuckets
from farebox.keys.tokens import KeyClaims
from farebox.metering.errors import Contended

# Of refusals: so that no key alone can have its organization's.
ORGANIZATION_SHARES = 4

# What of the shared threads refusals may cost on average: at 600 a minute, a key has 5 % of one. A minute's
# worth of it may come at once, since one long prompt takes half a second.
MILLISECONDS_A_REFUSAL = 5
_BURST_SECONDS = 60

# What costs next to nothing, and is nobody's fault or is bounded elsewhere.
_NO_REFUSALS = (Unavailable, ClientGone, TooManyPending)


class RefusedWork:
    """Buckets of refusals, and of the milliseconds that shared threads worked for them.

    A number alone says little: a small request is refused in a millisecond, a large one in a second.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        """`per_minute` is of a key's refusals; 0 bounds nothing. `clock` is the buckets'."""
        self._bounds = (
            _Bound("refused_requests_per_minute", per_minute, clock),
            _Bound("refused_seconds_per_minute", per_minute * MILLISECONDS_A_REFUSAL, clock, timed=True),
        )

    def check(self, claims: KeyClaims) -> None:
        """Raises TooManyRefusals where what was refused has cost too much already."""
        for bound in self._bounds:
            bound.check(claims)

    def note(self, claims: KeyClaims, error: FareboxError, seconds: float) -> None:
        """Take a refusal, and the seconds of threads that came before it, from the key and its organization.

        Whoever found a revoked key must not stop the organization that revoked it, nor one key the others:
        what goes beyond its own buckets is not taken from theirs. An account that somebody keeps locked is
        not refused, but the work is theirs.
        """
        known = not isinstance(error, Unauthenticated)
        refusals, milliseconds = self._bounds
        if not isinstance(error, _NO_REFUSALS):
            refusals.take(claims, 1, from_organization=known)
        if seconds and (isinstance(error, Contended) or not isinstance(error, _NO_REFUSALS)):
            milliseconds.take(claims, 1000 * seconds, from_organization=known)


class _Bound:
    """One kind of bucket, of keys and of their organizations."""

    def __init__(
        self, limit: str, per_minute: int, clock: Callable[[], float], *, timed: bool = False
    ) -> None:
        """`timed`: of what is taken it is only known afterwards how much it was."""
        self._limit = limit

        def buckets(shares: int) -> RefusalBuckets:
            if timed:
                return RefusalBuckets(
                    shares * per_minute, burst_seconds=_BURST_SECONDS, owing=True, clock=clock
                )
            return RefusalBuckets(shares * per_minute, clock=clock)

        self._keys, self._organizations = buckets(1), buckets(ORGANIZATION_SHARES)

    def check(self, claims: KeyClaims) -> None:
        key_wait = self._keys.wait_of(claims.key_id)
        wait = self._organizations.wait_of(claims.organization_id)
        if wait > key_wait:
            raise TooManyRefusals(self._limit, "organization", wait, claims.organization_id)
        if key_wait:
            raise TooManyRefusals(self._limit, "key", key_wait, claims.key_id)

    def take(self, claims: KeyClaims, amount: float, *, from_organization: bool) -> None:
        taken = self._keys.take(claims.key_id, amount)
        if from_organization and taken:
            self._organizations.take(claims.organization_id, taken)
