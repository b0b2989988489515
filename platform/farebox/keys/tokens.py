"""The keyring: which keys verify, what was verified already, and how a key is made."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.settings import Settings
from farebox.keys.errors import InvalidApiKey
from farebox.keys.jws import public_jwk
from farebox.keys.polling import repeated
from farebox.keys.sealing import SecretBox, load_secret_box
from farebox.keys.signing import KeyPair, load_key_pairs
from farebox.keys.token_format import MAX_BYTES, compose, read_claims, read_header

CACHED_TOKENS = 16_384
REFRESH_SECONDS = 5.0
# A replica may meet a key that another one signed with a pair of this very second. Asking Postgres
# for each unknown kid would let forged ones buy a query apiece, so they share one per second.
FORCED_REFRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class KeyClaims:
    """What a verified token says; `digest` is the SHA-256 of the whole token, as stored in its row.

    Only the row tells whether the key is good: see `service.authenticate` and the metering admission.
    """

    key_id: UUID
    organization_id: UUID
    project_id: UUID
    digest: bytes


@dataclass(frozen=True, slots=True)
class _Verified:
    claims: KeyClaims
    kid: str
    expires_at: int


def issuer_of(settings: Settings) -> str:
    """The `iss` of every key: the configured public address.

    Without one (development), a constant rather than host and port, so that the keys of a newcomer
    survive `PORT=9000 make run`.
    """
    return settings.base_url.rstrip("/") if settings.base_url else "farebox-development"


def digest_of(token: str) -> bytes:
    """The SHA-256 of a whole token, prefix included: what a key's row stores."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


class Keyring:
    """Mints and verifies API keys. Used from one event loop; `verify` does no I/O.

    Replicas poll: a rotated pair is known, and a retired one refused, everywhere within
    `REFRESH_SECONDS` (see `kept_fresh`).
    """

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        issuer: str,
        *,
        clock: Callable[[], float] = time.time,
        capacity: int = CACHED_TOKENS,
    ) -> None:
        self._database = database
        self._box = box
        self._issuer = issuer
        self._clock = clock
        self._capacity = capacity
        self._public: dict[str, Ed25519PublicKey] = {}
        self._signer: tuple[str, Ed25519PrivateKey] | None = None
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._refreshing: asyncio.Task[None] | None = None
        self._forced_at = float("-inf")

    @classmethod
    async def load(
        cls,
        database: Database,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        capacity: int = CACHED_TOKENS,
    ) -> "Keyring":
        """Read the pairs, making the first one in a new database.

        Raises SettingsError when the secret key is not the one that sealed them, Unavailable when
        Postgres is away.
        """
        box = load_secret_box(settings)
        keyring = cls(database, box, issuer_of(settings), clock=clock, capacity=capacity)
        await keyring.refresh()
        return keyring

    def mint(
        self, *, key_id: UUID, organization_id: UUID, project_id: UUID, subject: str, expires_at: datetime
    ) -> str:
        """Sign a new token. It opens nothing until a row with its SHA-256 is stored."""
        if self._signer is None:
            raise Unavailable("No signing key is loaded yet; please try again.")
        kid, private = self._signer
        return compose(
            private,
            kid=kid,
            issuer=self._issuer,
            subject=subject,
            key_id=key_id,
            organization_id=organization_id,
            project_id=project_id,
            expires_at=int(expires_at.timestamp()),
        )

    def verify(self, token: str) -> KeyClaims:
        """What the token says, if it is one of ours and has not expired; else InvalidApiKey.

        The signature costs 0.2 ms once; later calls find the token's SHA-256 in a bounded LRU cache,
        and check again what time changes: its expiry, and that its pair was not retired.
        """
        if len(token) > MAX_BYTES:  # before anything whose cost grows with the length
            raise InvalidApiKey
        digest = digest_of(token)
        verified = self._verified.get(digest) or self._judge(token, digest)
        if verified.kid not in self._public or verified.expires_at <= self._clock():
            self._verified.pop(digest, None)
            raise InvalidApiKey
        self._remember(digest, verified)
        return verified.claims

    async def resolve(self, token: str) -> KeyClaims:
        """`verify`, but read the pairs again, at most once a second, when the kid is unknown."""
        try:
            return self.verify(token)
        except InvalidApiKey:
            if read_header(token).kid in self._public:
                raise
        await self._force_refresh()
        return self.verify(token)

    async def refresh(self) -> None:
        """Read the pairs that verify now. Raises Unavailable when Postgres is away."""
        async with self._database.transaction() as session:
            pairs = await load_key_pairs(session, self._box)
        self._adopt(pairs)

    @asynccontextmanager
    async def kept_fresh(self, every_seconds: float = REFRESH_SECONDS) -> AsyncIterator["Keyring"]:
        """Refresh in the background while the context is open; the server's lifespan holds it."""
        async with repeated(self.refresh, every_seconds, name="keyring-refresh"):
            yield self

    @property
    def cached_tokens(self) -> int:
        """How many verified tokens are remembered."""
        return len(self._verified)

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517, RFC 8037), the signing one first."""
        return {"keys": [public_jwk(kid, public) for kid, public in self._public.items()]}

    def _judge(self, token: str, digest: bytes) -> _Verified:
        kid = read_header(token).kid
        public = self._public.get(kid)
        if public is None:
            raise InvalidApiKey
        claims = read_claims(token, public, self._issuer)
        return _Verified(KeyClaims(*claims.ids(), digest), kid, claims.exp)

    def _remember(self, digest: bytes, verified: _Verified) -> None:
        self._verified[digest] = verified
        self._verified.move_to_end(digest)
        if len(self._verified) > self._capacity:
            self._verified.popitem(last=False)

    def _adopt(self, pairs: list[KeyPair]) -> None:
        self._public = {pair.kid: pair.public for pair in pairs}
        self._signer = next(((pair.kid, pair.private) for pair in pairs if pair.private), None)

    async def _force_refresh(self) -> None:
        """Join the refresh under way, or start one unless the last is too recent."""
        if self._refreshing is None or self._refreshing.done():
            if time.monotonic() - self._forced_at < FORCED_REFRESH_SECONDS:
                return
            self._forced_at = time.monotonic()
            self._refreshing = asyncio.create_task(self.refresh(), name="keyring-unknown-kid")
        # Shielded: one caller who leaves must not cancel what the others wait for.
        await asyncio.shield(self._refreshing)
