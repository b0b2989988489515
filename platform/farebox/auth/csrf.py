"""Whether an unsafe request came from this site's own pages."""

import hashlib
import hmac
from typing import Any
from urllib.parse import urlsplit

from litestar.connection import Request

from farebox.auth.errors import ForgedRequest
from farebox.auth.sessions import cookie_name
from farebox.core import base64url
from farebox.core.settings import Settings

FIELD = "csrf_token"
HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS = {"http": 80, "https": 443}


def token_for(session_token: str) -> str:
    """The token for forms of a session: HMAC-SHA256 under the session's own token, so nothing is stored.

    It ends with the session and tells nothing about it.
    """
    mac = hmac.digest(session_token.encode("utf-8", "replace"), b"farebox csrf v1", hashlib.sha256)
    return base64url.encode(mac)


async def check(request: Request[Any, Any, Any], settings: Settings) -> None:
    """Demand the session's token, in the form field or the header, and a fitting Origin.

    Raises ForgedRequest.
    """
    check_origin(request, settings)
    session_token = request.cookies.get(cookie_name(settings), "")
    offered = request.headers.get(HEADER) or await _form_field(request)
    if not hmac.compare_digest(token_for(session_token).encode(), offered.encode("utf-8", "replace")):
        raise ForgedRequest


def check_origin(request: Request[Any, Any, Any], settings: Settings) -> None:
    """Refuse what a browser says another site sent (Origin, or else Sec-Fetch-Site).

    A client that is no browser sends neither and passes: it has no cookies that somebody could abuse.
    Raises ForgedRequest.
    """
    origin = request.headers.get("origin")
    if origin is None:
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise ForgedRequest
    elif origin not in _own_origins(request, settings):
        raise ForgedRequest


def _own_origins(request: Request[Any, Any, Any], settings: Settings) -> set[str]:
    origins = {_origin_of(settings.public_url)}
    if not settings.production:  # `localhost`, a forwarded port: whatever the newcomer typed
        origins.add(f"{request.scope['scheme']}://{request.headers.get('host', '')}")
    return origins


def _origin_of(url: str) -> str:
    """As browsers write it (RFC 6454): in lower case, without the scheme's own port."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


async def _form_field(request: Request[Any, Any, Any]) -> str:
    field = (await request.form()).get(FIELD, "")
    return field if isinstance(field, str) else ""
