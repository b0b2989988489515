"""Litestar dependencies for routes that a session cookie opens. They need `database` and `settings`."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from litestar.connection import Request
from litestar.di import NamedDependency

from farebox.auth import csrf, devices, sessions
from farebox.auth.errors import NotSignedIn
from farebox.auth.tokens import digest_of
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.tenants.members import first_membership


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who is signed in, and the organization they act for: the first that they joined."""

    user_id: UUID
    organization_id: UUID
    role: str
    email: str
    name: str
    csrf_token: str
    session_digest: bytes


@dataclass(frozen=True, slots=True)
class Client:
    """The browser behind a request: its IP address, and what its cookies say, unjudged."""

    address: str | None
    token: str | None
    device: str | None


def session_token(request: Request[Any, Any, Any], settings: Settings) -> str | None:
    """The session cookie's token, unjudged."""
    return request.cookies.get(sessions.cookie_name(settings))


def device_token(request: Request[Any, Any, Any], settings: Settings) -> str | None:
    """The device cookie's token, unjudged."""
    return request.cookies.get(devices.cookie_name(settings))


async def provide_client(request: Request[Any, Any, Any], settings: NamedDependency[Settings]) -> Client:
    """For the routes that open a session, which cannot demand one: sign-up, sign-in, links, reset.

    Raises ForgedRequest when another site sends an unsafe request: nobody shall be signed in to a
    stranger's account unawares.
    """
    if request.method not in csrf.SAFE_METHODS:
        csrf.check_origin(request, settings)
    return Client(
        address=request.client.host if request.client else None,
        token=session_token(request, settings),
        device=device_token(request, settings),
    )


async def provide_signed_in(
    request: Request[Any, Any, Any], database: NamedDependency[Database], settings: NamedDependency[Settings]
) -> SignedIn:
    """The signed-in person. An unsafe method is checked for forgery here, so no route can forget it.

    Raises NotSignedIn without a live session, ForgedRequest, and Unavailable when Postgres is away.
    """
    token = session_token(request, settings)
    if not token:
        raise NotSignedIn
    async with database.transaction(token_sha256=digest_of(token)) as session:
        found = await sessions.lookup(session, token)
    # A database that served development has sessions of addresses that nobody confirmed.
    if found is None or (settings.production and not found.verified):
        raise NotSignedIn
    if request.method not in csrf.SAFE_METHODS:
        await csrf.check(request, settings)
    async with database.transaction(user_id=found.user_id) as session:
        membership = await first_membership(session, found.user_id)
    if membership is None:
        raise NotSignedIn
    return SignedIn(
        user_id=found.user_id,
        organization_id=membership.organization_id,
        role=membership.role,
        email=found.email,
        name=found.name,
        csrf_token=csrf.token_for(token),
        session_digest=found.digest,
    )
