"""The Ed25519 key pairs that sign API keys and receipts: made, rotated, retired, resealed.

A pair has one purpose. It signs from its creation until a newer one exists, verifies until it is
retired, and stays in the table for the record. Operators call these under `Database.transaction()`.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core import base64url
from farebox.core.errors import Conflict, NotFound
from farebox.core.settings import SettingsError
from farebox.keys.models import SigningKey
from farebox.keys.sealing import SecretBox

Purpose = Literal["api_key", "receipt"]

_log = structlog.get_logger(__name__)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('farebox.signing_key', 0))")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An unretired pair; `private` is None for all but the one that signs."""

    kid: str
    public: Ed25519PublicKey
    private: Ed25519PrivateKey | None


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many private keys were sealed anew, and how many open under neither secret."""

    anew: int
    lost: int


async def signing_pair(session: AsyncSession, purpose: Purpose = "api_key") -> SigningKey | None:
    """The pair that signs now; None before the first start made one."""
    return next(iter(await _active(session, purpose)), None)


async def load_key_pairs(
    session: AsyncSession, box: SecretBox, purpose: Purpose = "api_key"
) -> list[KeyPair]:
    """Every pair that verifies, the signing one first; makes the first pair if there is none.

    Raises SettingsError when the signing pair was sealed under another secret.
    """
    rows = await _active(session, purpose)
    if not rows:
        await session.execute(_LOCK)  # replicas that start together must agree on one first pair
        rows = await _active(session, purpose) or [await _add(session, box, purpose)]
    return [
        KeyPair(
            kid=row.kid,
            public=Ed25519PublicKey.from_public_bytes(row.public_key),
            private=_unseal(row, box) if row is rows[0] else None,
        )
        for row in rows
    ]


async def rotate(session: AsyncSession, box: SecretBox, purpose: Purpose = "api_key") -> SigningKey:
    """Add a pair, which signs from now on; the former ones verify until retired."""
    await session.execute(_LOCK)
    row = await _add(session, box, purpose)
    _log.info("signing_key.rotated", kid=row.kid, purpose=purpose)
    return row


async def retire(session: AsyncSession, kid: str) -> None:
    """Let a pair verify no longer; every API key it signed dies on each replica within seconds, and what
    receipts it signed cannot be checked any more.

    Raises NotFound for an unknown kid and Conflict for the pair that signs (rotate first).
    Retiring twice changes nothing.
    """
    await session.execute(_LOCK)
    row = await session.get(SigningKey, kid)
    if row is None:
        raise NotFound("No such signing key.", code="not_found")
    if row.retired_at is None:
        if (await _active(session, row.purpose))[0].kid == kid:
            raise Conflict(
                "This signing key is in use; rotate before retiring it.", code="signing_key_in_use"
            )
        row.retired_at = await session.scalar(select(func.now()))
        _log.info("signing_key.retired", kid=kid)


async def reseal(session: AsyncSession, former: SecretBox, present: SecretBox) -> Resealed:
    """Seal every private key anew after `FAREBOX_SECRET_KEY` changed.

    Pairs under neither secret were lost with an earlier one; they stay as they are, because their
    public halves go on verifying. Raises SettingsError, with nothing changed, when neither secret opens
    a pair that signs, or when the former one opens nothing although something is closed.
    """
    await session.execute(_LOCK)
    oldest_first = select(SigningKey).order_by(SigningKey.created_at, SigningKey.kid.desc())
    rows = list(await session.scalars(oldest_first))
    signing = {row.purpose: row for row in rows}.values()
    closed = [row for row in rows if not present.opens(row.private_key_sealed, row.kid)]
    openable = [row for row in closed if former.opens(row.private_key_sealed, row.kid)]
    lost = [row for row in closed if row not in openable]
    if lost and (not openable or any(row in lost for row in signing)):
        raise SettingsError(
            "The former secret does not open the signing keys: it is not the one they were sealed with."
            " Nothing was changed."
        )
    for row in openable:
        row.private_key_sealed = present.seal(former.unseal(row.private_key_sealed, row.kid), row.kid)
    _log.info("signing_key.resealed", count=len(openable), lost=len(lost))
    return Resealed(len(openable), len(lost))


async def list_signing_keys(session: AsyncSession, purpose: Purpose = "api_key") -> list[SigningKey]:
    """All pairs of a purpose, retired ones too, newest first."""
    return list(await session.scalars(_newest_first(purpose)))


async def _active(session: AsyncSession, purpose: str) -> list[SigningKey]:
    return list(await session.scalars(_newest_first(purpose).where(SigningKey.retired_at.is_(None))))


def _newest_first(purpose: str) -> Select[SigningKey]:
    by_age = (SigningKey.created_at.desc(), SigningKey.kid)
    return select(SigningKey).where(SigningKey.purpose == purpose).order_by(*by_age)


async def _add(session: AsyncSession, box: SecretBox, purpose: Purpose) -> SigningKey:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    kid = thumbprint(public)
    row = SigningKey(
        kid=kid,
        purpose=purpose,
        public_key=public,
        private_key_sealed=box.seal(private.private_bytes_raw(), kid),
    )
    session.add(row)
    await session.flush()
    return row


def _unseal(row: SigningKey, box: SecretBox) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(box.unseal(row.private_key_sealed, row.kid))


def thumbprint(public: bytes) -> str:
    """The RFC 7638 thumbprint of a raw Ed25519 public key (RFC 8037, appendix A.3), used as `kid`.

    A kid thus names one key for ever: what was verified under it stays verified.
    """
    x = base64url.encode(public)
    jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    return base64url.encode(hashlib.sha256(jwk.encode()).digest())
