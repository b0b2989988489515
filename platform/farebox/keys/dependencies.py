"""Litestar dependencies for routes that an API key opens. They need `database` and `keyring`."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from litestar.connection import Request
from litestar.di import NamedDependency

from farebox.core.database import Database
from farebox.keys.errors import DuplicateHeader, InsufficientScope, InvalidApiKey
from farebox.keys.service import Principal, authenticate
from farebox.keys.tokens import Keyring


def one_authorization(values: Sequence[str]) -> str | None:
    """The Authorization header of a request. Raises DuplicateHeader for two."""
    if len(values) > 1:
        raise DuplicateHeader
    return values[0] if values else None


def bearer_token(authorization: str | None) -> str:
    """The token in an Authorization header (RFC 6750). Raises InvalidApiKey when there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise InvalidApiKey
    return token


async def provide_principal(
    request: Request[Any, Any, Any], database: NamedDependency[Database], keyring: NamedDependency[Keyring]
) -> Principal:
    """Whoever calls with `Authorization: Bearer fb_live_…`, judged by the key's row.

    Raises InvalidApiKey, one 401 for all causes; Unavailable when Postgres is away.
    """
    authorization = one_authorization(request.headers.getall("authorization", []))
    claims = await keyring.resolve(bearer_token(authorization))
    return await authenticate(database, claims)


def require_scope(scope: str) -> Callable[..., Awaitable[Principal]]:
    """`provide_principal` that also demands a scope: `{"principal": Provide(require_scope("admin"))}`.

    A dependency rather than a Litestar guard: guards run before dependencies and would have to find
    the key's row a second time. Raises InsufficientScope.
    """

    async def provide_scoped_principal(
        request: Request[Any, Any, Any],
        database: NamedDependency[Database],
        keyring: NamedDependency[Keyring],
    ) -> Principal:
        principal = await provide_principal(request, database, keyring)
        if scope not in principal.scopes:
            raise InsufficientScope(scope)
        return principal

    return provide_scoped_principal
