"""Pre-sessions, for forms before the sign-in: there is no session yet that a CSRF token could hang on.

A random cookie takes its place: the form carries the token derived from it. Without this, another
site could sign a visitor in to an account of its own and watch what they do there.
"""

import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from litestar import Response
from litestar.connection import Request
from litestar.datastructures import Cookie
from litestar.di import NamedDependency

from farebox.auth import csrf
from farebox.auth.errors import ForgedRequest
from farebox.core.settings import Settings


@dataclass(frozen=True, slots=True)
class PreSession:
    """What stands in for a session: the forms' CSRF token. `address` is an IP address, for the back-off."""

    csrf_token: str
    address: str | None
    cookie: Cookie

    def remember(self, response: Response[Any]) -> Response[Any]:
        """Send the cookie along, without which the form cannot be posted."""
        response.cookies.append(self.cookie)
        return response


async def provide_pre_session(
    request: Request[Any, Any, Any], settings: NamedDependency[Settings]
) -> PreSession:
    """The pre-session. A POST is checked for forgery here, so no form can forget it. Raises ForgedRequest."""
    name = "__Host-farebox-visitor" if settings.production else "farebox_visitor"
    secret = request.cookies.get(name, "")
    if request.method not in csrf.SAFE_METHODS:
        csrf.check_origin(request, settings)
        offered = (await request.form()).get(csrf.FIELD, "")
        if not secret or not hmac.compare_digest(
            csrf.token_for(secret).encode(), str(offered).encode("utf-8", "replace")
        ):
            raise ForgedRequest
    secret = secret if 20 <= len(secret) <= 100 else secrets.token_urlsafe(24)
    return PreSession(
        csrf_token=csrf.token_for(secret),
        address=request.client.host if request.client else None,
        cookie=Cookie(
            key=name, value=secret, path="/", secure=settings.production, httponly=True, samesite="strict"
        ),
    )
