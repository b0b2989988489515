"""What the public keys' route says of itself in the API reference; see `core.openapi.documentation`."""

from typing import Literal

import msgspec

from farebox.core.openapi.documentation import SERVER_ERRORS, Content, Documentation, Reply


class PublicKey(msgspec.Struct, frozen=True):
    """An Ed25519 key that verifies (RFC 8037); `kid` is its thumbprint (RFC 7638)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    x: str
    kid: str
    use: Literal["sig"]
    alg: Literal["EdDSA"]


class PublicKeySet(msgspec.Struct, frozen=True):
    """A JWK set (RFC 7517)."""

    keys: list[PublicKey]


API_KEY = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An API key, `fb_live_…`, made in the dashboard.",
    }
}

# The key of RFC 8037, appendix A, with its thumbprint from there.
_SAMPLE = PublicKey(
    kty="OKP",
    crv="Ed25519",
    x="11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    kid="kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    use="sig",
    alg="EdDSA",
)

PUBLIC_KEYS = Documentation(
    replies=[
        Reply(
            description="The JWK set: keys of API keys, then of receipts, of both the signing one first. "
            "It may be cached for five minutes.",
            contents=[
                Content(
                    kind=PublicKeySet,
                    media_type="application/jwk-set+json",
                    examples={"one key": PublicKeySet([_SAMPLE])},
                )
            ],
        )
    ],
    errors=SERVER_ERRORS,
)
