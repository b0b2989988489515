"""The public keys, for whoever wants to check a signature of this Farebox."""

from typing import Any

from litestar import Response, Router, get
from litestar.di import NamedDependency

from farebox.keys.documentation import PUBLIC_KEYS
from farebox.keys.receipt_keys import ReceiptKeys
from farebox.keys.tokens import Keyring

# Long enough to spare the server, short enough that a retired key is soon gone everywhere.
_MAX_AGE_SECONDS = 300


@get(
    "/.well-known/jwks.json",
    media_type="application/jwk-set+json",
    operation_id="getPublicKeys",
    summary="Public signing keys",
    tags=["Keys"],
    opt={"documentation": PUBLIC_KEYS},
)
async def jwks(
    keyring: NamedDependency[Keyring], receipt_keys: NamedDependency[ReceiptKeys]
) -> Response[dict[str, Any]]:
    """The JWK set (RFC 7517) of the Ed25519 keys that verify: those of API keys, then those of receipts, of
    both the signing one first."""
    keys = [*keyring.jwks()["keys"], *receipt_keys.jwks()]
    return Response({"keys": keys}, headers={"Cache-Control": f"public, max-age={_MAX_AGE_SECONDS}"})


router = Router(path="/", route_handlers=[jwks])
