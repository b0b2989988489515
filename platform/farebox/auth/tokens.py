"""Opaque tokens, of sessions and of mailed links. Only a token's SHA-256 is stored."""

import hashlib
import secrets


def new_token() -> str:
    """256 random bits, fit for a URL."""
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> bytes:
    """The SHA-256 by which a token's row is found; of anything that a browser sends."""
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
