"""Browsers that an account has signed in from, told by a cookie that opens nothing.

Whoever knows an address can keep the back-off of its account running for ever. A browser that proves
to have been let in before is counted apart, so that the owner does not queue behind the guesses of
strangers ("device cookies", OWASP's answer to locking accounts out).
"""

import hashlib
import hmac
import secrets

from litestar.datastructures import Cookie

from farebox.core import base64url
from farebox.core.settings import Settings
from farebox.tenants.models import User

_MAX_AGE_SECONDS = 180 * 24 * 3600


def cookie_name(settings: Settings) -> str:
    """Bound to its host as the session's is."""
    return "__Host-farebox-device" if settings.production else "farebox_device"


def cookie(settings: Settings, device: str) -> Cookie:
    """Outlives the session: it is for the day when that has ended."""
    return Cookie(
        key=cookie_name(settings),
        value=device,
        path="/",
        max_age=_MAX_AGE_SECONDS,
        secure=settings.production,
        httponly=True,
        samesite="lax",
    )


def mint(password_hash: str) -> str:
    """A new device of the account with this password hash, as `nonce.mac`."""
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_mac(nonce, password_hash)}"


def recognise(device: str | None, user: User | None) -> str | None:
    """The nonce of a device that this user signed in from since the password was last set, else None."""
    nonce, _, mac = (device or "").partition(".")
    if user is None or not nonce:
        return None
    expected = _mac(nonce, user.password_hash)
    return nonce if hmac.compare_digest(expected.encode(), mac.encode("utf-8", "replace")) else None


def _mac(nonce: str, password_hash: str) -> str:
    """Keyed with the password's hash, whose salt nobody outside knows: so a new password ends them all."""
    message = f"farebox device v1 {nonce}".encode("utf-8", "replace")
    mac = hmac.digest(password_hash.encode(), message, hashlib.sha256)
    return base64url.encode(mac)
