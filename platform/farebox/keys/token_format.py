"""The shape of an API key, `fb_live_<jwt>`: written in one way, read in that way only.

A JWT library is forgiving where a credential must not be: it takes a textual `exp`, the last of two
equal claims, unknown headers, padded or sloppy base64. So the token is taken apart here first, to
the letter of what `compose` writes, and PyJWT judges the signature, issuer and audience.
"""

import json
from typing import Any, Literal, TypeVar
from uuid import UUID

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from farebox.core import base64url
from farebox.core.errors import NotFound
from farebox.core.ids import external, internal
from farebox.keys.errors import InvalidApiKey

PREFIX = "fb_live_"
TYPE = "apikey+jwt"
ALGORITHM = "EdDSA"
AUDIENCE = "farebox"
# Decoding costs time in proportion to the length: five megabytes would take over half a second.
MAX_BYTES = 4096

_T = TypeVar("_T")

_OPTIONS: Any = {
    "require": ["iss", "aud", "sub", "jti", "exp"],
    "strict_aud": True,
    "verify_exp": False,  # done by `Keyring`, on every use and not only on the first
}


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole JOSE header; anything more (`crit`, `jwk`, `jku`, `b64`, …) is refused."""

    alg: Literal["EdDSA"]
    typ: Literal["apikey+jwt"]
    kid: str


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole payload. `exp` is in Unix seconds; ids are in their external form."""

    iss: str
    aud: str
    sub: str
    jti: str
    org: str
    prj: str
    exp: int

    def ids(self) -> tuple[UUID, UUID, UUID]:
        """The key's, the organization's and the project's id."""
        try:
            return internal("key", self.jti), internal("org", self.org), internal("proj", self.prj)
        except NotFound:
            raise InvalidApiKey from None


def compose(
    private: Ed25519PrivateKey,
    *,
    kid: str,
    issuer: str,
    subject: str,
    key_id: UUID,
    organization_id: UUID,
    project_id: UUID,
    expires_at: int,
) -> str:
    """Write and sign a key."""
    claims = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": subject,
        "jti": external("key", key_id),
        "org": external("org", organization_id),
        "prj": external("proj", project_id),
        "exp": expires_at,
    }
    return PREFIX + jwt.encode(claims, private, algorithm=ALGORITHM, headers={"typ": TYPE, "kid": kid})


def read_header(token: str) -> Header:
    """Take the token apart as far as its signature does not matter.

    Raises InvalidApiKey when it is too long, has another prefix or another number of segments than
    three, is not canonical unpadded base64url, or its header is not exactly a `Header`.
    """
    if len(token) > MAX_BYTES or not token.startswith(PREFIX) or not token.isascii():
        raise InvalidApiKey
    segments = token.removeprefix(PREFIX).split(".")
    if len(segments) != 3:
        raise InvalidApiKey
    header, _, _ = (_decode(segment) for segment in segments)
    return _convert(header, Header)


def read_claims(token: str, public: Ed25519PublicKey, issuer: str) -> Claims:
    """Check the signature, then the claims, of a token whose header was read.

    Raises InvalidApiKey on another signature, issuer or audience, and when the payload is not exactly
    a `Claims`, each claim once and of its type. The expiry is left to the caller.
    """
    compact = token.removeprefix(PREFIX)
    try:
        jwt.decode(
            compact, public, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=issuer, options=_OPTIONS
        )
    except jwt.PyJWTError:
        raise InvalidApiKey from None
    return _convert(_decode(compact.split(".")[1]), Claims)


def _decode(segment: str) -> bytes:
    try:
        return base64url.decode(segment)
    except ValueError:
        raise InvalidApiKey from None


def _convert(document: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(json.loads(document.decode(), object_pairs_hook=_without_duplicates), kind)
    except (ValueError, RecursionError):  # msgspec's and the JSON decoder's errors are ValueErrors
        raise InvalidApiKey from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members
