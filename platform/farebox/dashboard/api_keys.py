"""API keys: made, shown once, revoked."""

from dataclasses import dataclass
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
from farebox.core.database import Database
from farebox.core.errors import BadRequest, Conflict
from farebox.core.fair_threads import FairThreads
from farebox.core.ids import internal
from farebox.core.settings import Settings
from farebox.dashboard.filled_form import EMPTY, FilledForm, refused
from farebox.dashboard.forms import KeyForm, fill_in, read_typed
from farebox.dashboard.frame import Frame, load_frame, require_administrator
from farebox.dashboard.offered_models import example_model
from farebox.dashboard.pages import framed_page, redirect
from farebox.dashboard.parts import ROWS, Part, PartNumber, first_row, part
from farebox.keys.models import ApiKey
from farebox.keys.service import (
    MintedKey,
    count_ended_keys,
    create_key,
    find_key,
    revoke_key,
    some_keys,
)
from farebox.keys.tokens import Keyring


@dataclass(frozen=True)
class KeysShown:
    """What the page lists, and the model that its example calls."""

    frame: Frame
    live: Part[ApiKey]
    ended: Part[ApiKey]
    ended_count: int
    example_model: str


@get("/keys")
async def keys_page(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
    live: PartNumber = 1,
    ended: PartNumber = 1,
) -> Response[str]:
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        shown = await load_keys(request, session, signed_in, settings, live, ended)
    return await draw_keys(printers, shown)


@post("/keys", status_code=200)
async def make_key(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    keyring: NamedDependency[Keyring],
    printers: NamedDependency[FairThreads],
) -> Response[str]:
    typed = await read_typed(request)
    owner: dict[str, Any] = {"organization_id": signed_in.organization_id, "user_id": signed_in.user_id}
    made, filled = None, EMPTY
    try:
        form = fill_in(typed, KeyForm)
        async with database.transaction(**owner) as session:
            made = await _make(session, keyring, signed_in, form, settings.max_keys)
    except (BadRequest, Conflict) as error:
        filled = refused(typed, error, KeyForm)
    async with database.transaction(**owner) as session:
        shown = await load_keys(request, session, signed_in, settings)
    return await draw_keys(printers, shown, form=filled, made=made)


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


async def load_keys(
    request: Request[Any, Any, Any],
    session: AsyncSession,
    person: SignedIn,
    settings: Settings,
    live: int = 1,
    ended: int = 1,
) -> KeysShown:
    """These parts of the keys in use and of those that have ended."""

    async def keys(living: bool, number: int) -> Part[ApiKey]:
        rows = await some_keys(
            session,
            person.organization_id,
            living=living,
            skip=first_row(number),
            at_most=ROWS + 1,
        )
        return part(rows, number)

    return KeysShown(
        frame=await load_frame(session, person, settings),
        live=await keys(True, live),
        ended=await keys(False, ended),
        ended_count=await count_ended_keys(session, person.organization_id),
        example_model=await example_model(request, session, person.organization_id),
    )


async def draw_keys(
    printers: FairThreads,
    shown: KeysShown,
    *,
    form: FilledForm = EMPTY,
    made: MintedKey | None = None,
) -> Response[str]:
    """The page of keys, once with the token of the one just made."""
    return await framed_page(
        printers,
        "keys.html",
        status=form.status,
        frame=shown.frame,
        shown=shown,
        project_names=dict(shown.frame.projects),
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
