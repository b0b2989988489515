"""Tokens signed with the real signing key, but not as `Keyring.mint` would write them."""

import base64
import json
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from farebox.core.database import Database
from farebox.core.ids import external, new_id
from farebox.keys.sealing import load_secret_box
from farebox.keys.signing import load_key_pairs
from farebox.keys.token_format import PREFIX
from tests.tenants.factories import SETTINGS

FAR_FUTURE = 4_000_000_000


def encode(document: bytes) -> str:
    return base64.urlsafe_b64encode(document).rstrip(b"=").decode()


class Forge:
    """Somebody who has stolen the signing key. Each method returns a whole token."""

    def __init__(self, kid: str, private: Ed25519PrivateKey) -> None:
        self.kid = kid
        self.private = private

    @classmethod
    async def open(cls, database: Database) -> "Forge":
        async with database.transaction() as session:
            signer = (await load_key_pairs(session, load_secret_box(SETTINGS)))[0]
        assert signer.private is not None
        return cls(signer.kid, signer.private)

    def header(self, **changes: Any) -> dict[str, Any]:
        return {"alg": "EdDSA", "kid": self.kid, "typ": "apikey+jwt"} | changes

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "iss": "farebox-development",
            "aud": "farebox",
            "sub": external("user", new_id()),
            "jti": external("key", new_id()),
            "org": external("org", new_id()),
            "prj": external("proj", new_id()),
            "exp": FAR_FUTURE,
        }
        return claims | changes

    def claims_of(self, key_id: UUID, organization_id: UUID, project_id: UUID) -> dict[str, Any]:
        return self.claims(
            jti=external("key", key_id),
            org=external("org", organization_id),
            prj=external("proj", project_id),
        )

    def token(self, header: dict[str, Any] | bytes, claims: dict[str, Any] | bytes) -> str:
        """Sign a header and a payload, given as JSON values or byte for byte."""
        head, body = (
            part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)
        )
        signed = f"{encode(head)}.{encode(body)}"
        return f"{PREFIX}{signed}.{encode(self.private.sign(signed.encode()))}"
