"""Projects and limits: what an organization, a project or a key may spend and ask for."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.connection import Request
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.dependencies import SignedIn
from farebox.core.database import Database
from farebox.core.errors import BadRequest, Conflict, NotFound
from farebox.core.fair_threads import FairThreads
from farebox.core.ids import external, internal
from farebox.core.settings import Settings
from farebox.dashboard.filled_form import EMPTY, FilledForm, refused
from farebox.dashboard.forms import LimitsForm, ProjectForm, fill_in, limits_advice, read_typed
from farebox.dashboard.frame import Frame, load_frame, require_administrator
from farebox.dashboard.pages import framed_page, redirect
from farebox.dashboard.parts import ROWS, Part, PartNumber, first_row, part
from farebox.keys.models import ApiKey
from farebox.keys.service import find_key
from farebox.limits.models import MeterScope
from farebox.limits.service import (
    Ceilings,
    LimitChange,
    ceilings_for,
    get_limits,
    limits_of_projects,
    set_limits,
)
from farebox.tenants.audit import record
from farebox.tenants.organizations import create_project

ProjectId = Annotated[str, QueryParameter(max_length=40)]

_PREFIXES = {"organization": "org", "project": "proj", "key": "key"}


@dataclass(frozen=True)
class LimitedScope:
    """An organization, project or key with its limits; `id` is the external one."""

    id: str
    kind: str
    name: str
    limits: MeterScope


@dataclass(frozen=True)
class LimitsShown:
    """What the page lists: with a key, that alone."""

    frame: Frame
    organization: LimitedScope
    projects: Part[LimitedScope]
    key: LimitedScope | None
    at: str


@get("/limits")
async def limits_page(
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
    page: PartNumber = 1,
    project: ProjectId = "",
) -> Response[str]:
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        shown = await load_limits(session, signed_in, settings, at=project, page=page)
    return await draw_limits(printers, shown, settings)


@get("/limits/{key:str}")
async def key_limits_page(
    key: FromPath[str],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
) -> Response[str]:
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        shown = await load_limits(session, signed_in, settings, at=external("key", internal("key", key)))
    return await draw_limits(printers, shown, settings)


@post("/limits/{scope_id:str}", status_code=200)
async def change_limits(
    scope_id: FromPath[str],
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
) -> Response[Any]:
    require_administrator(signed_in)
    typed, filled = await read_typed(request), EMPTY
    try:
        # Committed before anything is drawn: admission waits for the row that is changed here.
        async with database.transaction(
            organization_id=signed_in.organization_id, user_id=signed_in.user_id
        ) as session:
            ceilings = await ceilings_for(session, signed_in.organization_id, settings)
            form = fill_in(typed, LimitsForm, limits_advice(ceilings), ceilings.allow)
            await _change(session, signed_in, scope_id, form, ceilings)
    except BadRequest as error:
        filled = refused(typed, error, LimitsForm)
    async with database.transaction(
        organization_id=signed_in.organization_id, user_id=signed_in.user_id
    ) as session:
        shown = await load_limits(session, signed_in, settings, at=scope_id)
    return await draw_limits(printers, shown, settings, filled, saved=filled is EMPTY)


@post("/projects", status_code=303)
async def make_project(
    request: Request[Any, Any, Any],
    signed_in: NamedDependency[SignedIn],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    printers: NamedDependency[FairThreads],
) -> Response[Any]:
    require_administrator(signed_in)
    typed = await read_typed(request)
    owner: dict[str, Any] = {"organization_id": signed_in.organization_id, "user_id": signed_in.user_id}
    try:
        form = fill_in(typed, ProjectForm)
        async with database.transaction(**owner) as session:
            made = await create_project(
                session,
                organization_id=signed_in.organization_id,
                name=form.name,
                actor_id=signed_in.user_id,
                at_most=settings.max_projects,
            )
    except (BadRequest, Conflict) as error:
        filled = refused(typed, error, ProjectForm)
        async with database.transaction(**owner) as session:
            shown = await load_limits(session, signed_in, settings, at="new-project")
        return await draw_limits(printers, shown, settings, filled)
    project = external("proj", made.id)
    return redirect(f"/limits?project={project}#{project}")


async def load_limits(
    session: AsyncSession, person: SignedIn, settings: Settings, *, at: str = "", page: int = 1
) -> LimitsShown:
    """The limits of the organization and a part of its projects, or of one key.

    `at` is the scope (or `new-project`) that was asked for, was just saved, or could not be: of a project,
    its part is shown, whatever `page` says.
    """
    frame = await load_frame(session, person, settings)
    organization_id = person.organization_id

    async def limited(kind: str, scope_id: UUID, name: str) -> LimitedScope:
        limits = await get_limits(session, organization_id, scope_id)
        return LimitedScope(external(_PREFIXES[kind], scope_id), kind, name, limits)

    key = await _key(session, person, at) if at.startswith("key_") else None
    return LimitsShown(
        frame=frame,
        organization=await limited("organization", organization_id, frame.organization),
        projects=await _projects(session, frame, _part_of(frame, at) or page),
        key=await limited("key", key.id, key.name) if key else None,
        at=at,
    )


async def draw_limits(
    printers: FairThreads,
    shown: LimitsShown,
    settings: Settings,
    form: FilledForm = EMPTY,
    *,
    saved: bool = False,
) -> Response[str]:
    return await framed_page(
        printers,
        "limits.html",
        status=form.status,
        frame=shown.frame,
        organization=shown.organization,
        projects=shown.projects,
        key=shown.key,
        at=shown.at,
        defaults=settings,
        saved=saved,
        form=form,
        untouched=EMPTY,
    )


async def _projects(session: AsyncSession, frame: Frame, number: int) -> Part[LimitedScope]:
    shown = part(frame.projects[first_row(number) :], number)
    limits = await limits_of_projects(session, frame.person.organization_id, [each.id for each in shown.rows])
    rows = [
        LimitedScope(external("proj", each.id), "project", each.name, limits[each.id])
        for each in shown.rows
        if each.id in limits
    ]
    return Part(rows, shown.number, shown.more)


def _part_of(frame: Frame, external_id: str) -> int | None:
    """The part on which a project of this external id is."""
    ids = [external("proj", each.id) for each in frame.projects]
    return ids.index(external_id) // ROWS + 1 if external_id in ids else None


async def _key(session: AsyncSession, person: SignedIn, external_id: str) -> ApiKey:
    key = await find_key(session, person.organization_id, internal("key", external_id))
    if key is None or key.revoked_at is not None:
        raise NotFound("No such API key.", code="not_found")
    return key


async def _change(
    session: AsyncSession, person: SignedIn, external_id: str, form: LimitsForm, ceilings: Ceilings
) -> None:
    scope_id = await _scope_id(session, person, external_id)
    values = msgspec.structs.asdict(form)
    if external_id.startswith(_PREFIXES["key"]):
        del values["monthly_cap"]
    await set_limits(session, person.organization_id, scope_id, LimitChange(**values), ceilings)
    await record(
        session,
        organization_id=person.organization_id,
        actor_id=person.user_id,
        action="limits.changed",
        target=external_id,
        detail={name: None if value is None else str(value) for name, value in values.items()},
    )


async def _scope_id(session: AsyncSession, person: SignedIn, external_id: str) -> UUID:
    """Whose limits are meant. Malformed, absent, another tenant's or of another kind: all look alike."""
    prefix = external_id.partition("_")[0]
    with suppress(NotFound):
        scope = await get_limits(session, person.organization_id, internal(prefix, external_id))
        if _PREFIXES[scope.kind] == prefix:
            return scope.id
    raise NotFound("No such organization, project or key.", code="not_found")
