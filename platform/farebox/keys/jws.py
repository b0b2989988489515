"""Signed statements as JWS in compact form (RFC 7515), EdDSA with Ed25519 alone (RFC 8037).

The `typ` says what is stated, so that nothing signed for one purpose passes for another.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

from farebox.core import base64url

ALGORITHM: Final = "EdDSA"


class InvalidSignedStatement(ValueError):
    """The text is no statement that one of the keys signed."""


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole JOSE header; anything more (`crit`, `jwk`, `b64`, …) is refused."""

    alg: Literal["EdDSA"]
    typ: str
    kid: str


class _PublicKey(msgspec.Struct, frozen=True):
    """What counts of a JWK; keys of other kinds are passed over."""

    kid: str
    kty: str
    x: str = ""
    crv: str = ""


class StatementSigner:
    """Signs statements of one kind with one key."""

    __slots__ = ("_header", "_private")

    def __init__(self, private: Ed25519PrivateKey, *, kid: str, typ: str) -> None:
        self._private = private
        self._header = base64url.encode(msgspec.json.encode(_Header(ALGORITHM, typ, kid)))

    def sign(self, payload: bytes) -> str:
        """`header.payload.signature`."""
        signed = f"{self._header}.{base64url.encode(payload)}"
        return f"{signed}.{base64url.encode(self._private.sign(signed.encode()))}"


def read_statement(text: str, keys: Mapping[str, Ed25519PublicKey], *, typ: str) -> bytes:
    """The payload of a statement of that `typ`, which one of the keys signed.

    Raises InvalidSignedStatement.
    """
    parts = text.split(".")
    if len(parts) != 3:
        raise InvalidSignedStatement("A signed statement has three parts.")
    try:
        header = msgspec.json.decode(base64url.decode(parts[0]), type=_Header)
        payload, signature = base64url.decode(parts[1]), base64url.decode(parts[2])
    except ValueError as error:
        raise InvalidSignedStatement(f"A part of the signed statement cannot be read: {error}") from None
    if header.typ != typ:
        raise InvalidSignedStatement(f"It is signed as {header.typ}, not as {typ}.")
    if header.kid not in keys:
        raise InvalidSignedStatement(f"The key {header.kid}, which signed it, is not in the key set.")
    try:
        keys[header.kid].verify(signature, f"{parts[0]}.{parts[1]}".encode())
    except InvalidSignature:
        raise InvalidSignedStatement(f"The signature is not that of the key {header.kid}.") from None
    return payload


def public_jwk(kid: str, public: Ed25519PublicKey) -> dict[str, Any]:
    """A public key as a JWK (RFC 7517, RFC 8037)."""
    jwk: dict[str, Any] = OKPAlgorithm.to_jwk(public, as_dict=True)
    return jwk | {"kid": kid, "use": "sig", "alg": ALGORITHM}


def read_jwks(document: bytes) -> dict[str, Ed25519PublicKey]:
    """The Ed25519 keys of a JWK set, by their ids. Raises ValueError for what is none."""
    keys = msgspec.json.decode(document, type=dict[str, list[_PublicKey]]).get("keys", [])
    return {
        key.kid: Ed25519PublicKey.from_public_bytes(base64url.decode(key.x))
        for key in keys
        if (key.kty, key.crv) == ("OKP", "Ed25519")
    }
