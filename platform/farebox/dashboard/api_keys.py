"""API keys: made, shown once, revoked."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Response, get, post
from litestar.connection import Request
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.response import Redirect
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.dependencies import SignedIn
from farebox.core.clock import utc_now
from farebox.core.database import Database
from farebox.core.errors import BadRequest, Conflict
from farebox.core.ids import internal
from farebox.core.settings import Settings
from farebox.dashboard.example import example_model
from farebox.dashboard.filled_form import EMPTY, FilledForm, refused
from farebox.dashboard.forms import KeyForm, fill_in, read_typed
from farebox.dashboard.frame import load_frame, require_administrator
from farebox.dashboard.pages import long_page, redirect
from farebox.keys.service import MintedKey, create_key, find_key, list_keys, revoke_key
from farebox.keys.tokens import Keyring


@get("/keys")
async def keys_page(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[str]:
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        return await render_keys(request, session, signed_in, settings)


@post("/keys", status_code=200)
async def make_key(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    keyring: NamedDependency[Keyring],
) -> Response[str]:
    typed = await read_typed(request)
    owner: dict[str, Any] = {"organization_id": signed_in.organization_id, "user_id": signed_in.user_id}
    try:
        form = fill_in(typed, KeyForm)
        async with database.transaction(**owner) as session:
            made = await _make(session, keyring, signed_in, form, settings.max_keys)
    except (BadRequest, Conflict) as error:
        filled = refused(typed, error, KeyForm)
        async with database.transaction(**owner) as session:
            return await render_keys(request, session, signed_in, settings, form=filled)
    async with database.transaction(**owner) as session:
        return await render_keys(request, session, signed_in, settings, made=made)


@post("/keys/{key:str}/revoke", status_code=303)
async def revoke(
    key: FromPath[str], signed_in: NamedDependency[SignedIn], database: NamedDependency[Database]
) -> Redirect:
    key_id = internal("key", key)
    async with database.transaction(organization_id=signed_in.organization_id) as session:
        row = await find_key(session, signed_in.organization_id, key_id)
        if row is not None and row.user_id != signed_in.user_id:
            require_administrator(signed_in)
        await revoke_key(
            session,
            organization_id=signed_in.organization_id,
            key_id=key_id,
            actor_id=signed_in.user_id,
        )
    return redirect("/keys")


async def render_keys(
    request: Request[Any, Any, Any],
    session: AsyncSession,
    person: SignedIn,
    settings: Settings,
    *,
    form: FilledForm = EMPTY,
    made: MintedKey | None = None,
) -> Response[str]:
    """The page of keys, once with the token of the one just made."""
    frame = await load_frame(session, person, settings)
    keys = await list_keys(session, organization_id=person.organization_id)
    example = await example_model(request, session)
    now = utc_now()
    return await long_page(
        "keys.html",
        status=form.status,
        frame=frame,
        live=[each for each in keys if each.revoked_at is None and each.expires_at > now],
        ended=[each for each in keys if each.revoked_at is not None or each.expires_at <= now],
        project_names={each.id: each.name for each in frame.projects},
        example_model=example,
        form=form,
        made=made,
    )


async def _make(
    session: AsyncSession, keyring: Keyring, person: SignedIn, form: KeyForm, at_most: int
) -> MintedKey:
    # The scope `admin` reads the whole organization's usage and costs.
    if form.scope == "admin":
        require_administrator(person)
    project_id: UUID = internal("proj", form.project)
    return await create_key(
        session,
        keyring,
        organization_id=person.organization_id,
        project_id=project_id,
        name=form.name,
        user_id=person.user_id,
        scopes=(form.scope,),
        lifetime=timedelta(days=form.days),
        at_most=at_most,
    )
