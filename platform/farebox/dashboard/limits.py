"""Projects and limits: what an organization, a project or a key may spend and ask for."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.connection import Request
from litestar.di import NamedDependency
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.database import Database
from farebox.core.errors import BadRequest, NotFound
from farebox.core.ids import external, internal
from farebox.core.settings import Settings
from farebox.dashboard.forms import LimitsForm, ProjectForm, read_form
from farebox.dashboard.frame import load_frame, require_administrator
from farebox.dashboard.pages import page, redirect
from farebox.keys.service import list_keys
from farebox.limits.models import MeterScope
from farebox.limits.service import LimitChange, get_limits, set_limits
from farebox.tenants.audit import record
from farebox.tenants.dependencies import SignedIn
from farebox.tenants.organizations import create_project


@dataclass(frozen=True)
class LimitedScope:
    """An organization, project or key with its limits; `id` is the external one."""

    id: str
    kind: str
    name: str
    limits: MeterScope


@get("/limits")
async def limits_page(
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[str]:
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        return await render_limits(session, signed_in, settings)


@post("/limits/{scope_id:str}", status_code=200)
async def change_limits(
    scope_id: str,
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    require_administrator(signed_in)
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        try:
            await _change(session, signed_in, scope_id, await read_form(request, LimitsForm))
        except BadRequest as error:
            return await render_limits(session, signed_in, settings, error=error, at=scope_id)
        return await render_limits(session, signed_in, settings, at=scope_id)


@post("/projects", status_code=303)
async def make_project(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Response[Any]:
    require_administrator(signed_in)
    form = await read_form(request, ProjectForm)
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        owner: dict[str, UUID] = {
            "organization_id": signed_in.organization_id,
            "actor_id": signed_in.user_id,
        }
        try:
            made = await create_project(session, name=form.name, **owner)
        except BadRequest as error:
            return await render_limits(session, signed_in, settings, error=error, at="new-project")
    return redirect(f"/limits#{external('proj', made.id)}")


async def render_limits(
    session: AsyncSession,
    person: SignedIn,
    settings: Settings,
    *,
    error: BadRequest | None = None,
    at: str | None = None,
) -> Response[str]:
    """The page of limits; `at` is the scope (or `new-project`) that was just saved, or could not be."""
    frame = await load_frame(session, person, settings)
    organization_id = person.organization_id
    named = [("org", "organization", organization_id, frame.organization)]
    named += [("proj", "project", each.id, each.name) for each in frame.projects]
    named += [
        ("key", "key", each.id, each.name)
        for each in await list_keys(session, organization_id=organization_id)
        if each.revoked_at is None
    ]
    scopes = [
        LimitedScope(external(prefix, each), kind, name, await get_limits(session, organization_id, each))
        for prefix, kind, each, name in named
    ]
    return page(
        "limits.html",
        status=error.status if error else 200,
        frame=frame,
        scopes=scopes,
        defaults=settings,
        at=at,
        error=error.message if error else None,
    )


async def _change(session: AsyncSession, person: SignedIn, scope_id: str, form: LimitsForm) -> None:
    prefix = scope_id.partition("_")[0]
    if prefix not in ("org", "proj", "key"):
        raise NotFound("No such organization, project or key.", code="not_found")
    values = msgspec.structs.asdict(form)
    if prefix == "key":
        del values["monthly_cap"]
    await set_limits(session, person.organization_id, internal(prefix, scope_id), LimitChange(**values))
    await record(
        session,
        organization_id=person.organization_id,
        actor_id=person.user_id,
        action="limits.changed",
        target=scope_id,
        detail={name: None if value is None else str(value) for name, value in values.items()},
    )
