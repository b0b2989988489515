"""The key pairs that sign receipts and seals: used by a server, published with those of API keys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from farebox.core.database import Database
from farebox.core.errors import Unavailable
from farebox.core.settings import Settings
from farebox.keys.jws import StatementSigner, public_jwk
from farebox.keys.polling import repeated
from farebox.keys.sealing import SecretBox, load_secret_box
from farebox.keys.signing import KeyPair, load_key_pairs
from farebox.keys.tokens import REFRESH_SECONDS

# What is signed: the root of the tree over a batch's receipts; the seal of an hour.
ROOT_TYPE = "farebox-receipts+jws"
SEAL_TYPE = "farebox-seal+jws"


class ReceiptKeys:
    """The pairs with the purpose `receipt`, read again every few seconds as those of API keys are."""

    def __init__(self, database: Database, box: SecretBox) -> None:
        self._database = database
        self._box = box
        self._public: dict[str, Ed25519PublicKey] = {}
        self._signers: dict[str, StatementSigner] = {}
        self._signing: str | None = None

    @classmethod
    async def load(cls, database: Database, settings: Settings) -> "ReceiptKeys":
        """Read the pairs, making the first one in a new database.

        Raises SettingsError when the secret key is not the one that sealed them, Unavailable when Postgres
        is away.
        """
        keys = cls(database, load_secret_box(settings))
        await keys.refresh()
        return keys

    async def refresh(self) -> None:
        """Read the pairs that verify now. Raises Unavailable when Postgres is away."""
        async with self._database.transaction() as session:
            pairs = await load_key_pairs(session, self._box, "receipt")
        self._adopt(pairs)

    @asynccontextmanager
    async def kept_fresh(self, every_seconds: float = REFRESH_SECONDS) -> AsyncIterator["ReceiptKeys"]:
        """Refresh in the background while the context is open; the server's lifespan holds it."""
        async with repeated(self.refresh, every_seconds, name="receipt-keys-refresh"):
            yield self

    def sign_root(self, payload: bytes) -> str:
        """Sign the root of a batch's receipts."""
        return self._sign(ROOT_TYPE, payload)

    def sign_seal(self, payload: bytes) -> str:
        """Sign the seal of an hour."""
        return self._sign(SEAL_TYPE, payload)

    def jwks(self) -> list[dict[str, Any]]:
        """The public keys as JWKs, the signing one first; former ones until they are retired."""
        return [public_jwk(kid, public) for kid, public in self._public.items()]

    def _sign(self, typ: str, payload: bytes) -> str:
        if typ not in self._signers:
            raise Unavailable("No key for receipts is loaded yet; please try again.")
        return self._signers[typ].sign(payload)

    def _adopt(self, pairs: list[KeyPair]) -> None:
        self._public = {pair.kid: pair.public for pair in pairs}
        signing = next((pair for pair in pairs if pair.private is not None), None)
        if signing is None or signing.private is None or signing.kid == self._signing:
            return
        self._signing = signing.kid
        self._signers = {
            typ: StatementSigner(signing.private, kid=signing.kid, typ=typ) for typ in (ROOT_TYPE, SEAL_TYPE)
        }
