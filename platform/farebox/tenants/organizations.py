"""Organizations, their members, projects and service accounts.

Every function works inside the caller's transaction, which must be the organization's
(`Database.transaction(organization_id=…)`).
"""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from farebox.core.errors import NotFound
from farebox.core.ids import external, new_id
from farebox.tenants.audit import record
from farebox.tenants.ceilings import check_room
from farebox.tenants.models import Membership, Organization, Project, ServiceAccount
from farebox.tenants.names import clean_name


@dataclass(frozen=True, slots=True)
class NewOrganization:
    organization_id: UUID
    project_id: UUID


async def create_organization(
    session: AsyncSession, *, organization_id: UUID, name: str, owner_id: UUID | None = None
) -> NewOrganization:
    """Found an organization with a project named Default, owned by the given user or by nobody yet."""
    name = clean_name(name, "organization")
    session.add(Organization(id=organization_id, name=name))
    await session.flush()
    if owner_id is not None:
        session.add(Membership(organization_id=organization_id, user_id=owner_id, role="owner"))
    await record(
        session,
        organization_id=organization_id,
        actor_id=owner_id,
        action="organization.created",
        target=external("org", organization_id),
        detail={"name": name},
    )
    project = await create_project(
        session, organization_id=organization_id, name="Default", actor_id=owner_id
    )
    return NewOrganization(organization_id, project.id)


async def find_organization(session: AsyncSession, organization_id: UUID) -> Organization | None:
    return await session.get(Organization, organization_id)


async def list_organizations(session: AsyncSession) -> list[Organization]:
    """All of them, oldest first, for the operator, under `Database.meter_transaction()`."""
    return list(await session.scalars(select(Organization).order_by(Organization.id)))


async def create_project(
    session: AsyncSession,
    *,
    organization_id: UUID,
    name: str,
    actor_id: UUID | None,
    at_most: int | None = None,
) -> Project:
    """Raises BadRequest for a bad name, TooMany where `at_most` are open already."""
    project = Project(id=new_id(), organization_id=organization_id, name=clean_name(name))
    opened = select(Project.id).where(
        Project.organization_id == organization_id, Project.archived_at.is_(None)
    )
    await check_room(session, organization_id, opened, "projects", at_most)
    session.add(project)
    await session.flush()
    await record(
        session,
        organization_id=organization_id,
        actor_id=actor_id,
        action="project.created",
        target=external("proj", project.id),
        detail={"name": project.name},
    )
    return project


async def list_projects(
    session: AsyncSession, organization_id: UUID, *, with_archived: bool = False
) -> list[Project]:
    """The organization's projects, oldest first."""
    query = select(Project).where(Project.organization_id == organization_id).order_by(Project.id)
    if not with_archived:
        query = query.where(Project.archived_at.is_(None))
    return list(await session.scalars(query))


class ProjectName(NamedTuple):
    id: UUID
    name: str


async def list_project_names(session: AsyncSession, organization_id: UUID) -> list[ProjectName]:
    """Of the open projects, oldest first: of thousands, the rows would take long to load."""
    query = select(Project.id, Project.name).where(
        Project.organization_id == organization_id, Project.archived_at.is_(None)
    )
    return [ProjectName(*row) for row in await session.execute(query.order_by(Project.id))]


async def archive_project(
    session: AsyncSession, *, organization_id: UUID, project_id: UUID, actor_id: UUID | None
) -> None:
    """Close a project for good; its keys fail from the next request on. Twice changes nothing.

    Raises NotFound for a project that is absent or another organization's.
    """
    project = await _project(session, organization_id, project_id)
    if project.archived_at is None:
        project.archived_at = await session.scalar(select(func.now()))
        await record(
            session,
            organization_id=organization_id,
            actor_id=actor_id,
            action="project.archived",
            target=external("proj", project_id),
        )


async def open_project(session: AsyncSession, organization_id: UUID, project_id: UUID) -> Project:
    """The project, to make something in it. Raises NotFound when absent, foreign or archived."""
    project = await _project(session, organization_id, project_id)
    if project.archived_at is not None:
        raise _no_project()
    return project


async def create_service_account(
    session: AsyncSession, *, organization_id: UUID, project_id: UUID, name: str, actor_id: UUID | None
) -> ServiceAccount:
    """Raises NotFound when the project is absent, foreign or archived."""
    await open_project(session, organization_id, project_id)
    account = ServiceAccount(
        id=new_id(), organization_id=organization_id, project_id=project_id, name=clean_name(name)
    )
    session.add(account)
    await session.flush()
    await record(
        session,
        organization_id=organization_id,
        actor_id=actor_id,
        action="service_account.created",
        target=external("svc", account.id),
        detail={"name": account.name, "project": external("proj", project_id)},
    )
    return account


async def check_service_account(
    session: AsyncSession, organization_id: UUID, project_id: UUID, account_id: UUID
) -> None:
    """Raises NotFound unless the account is there, in this project of this organization."""
    account = await session.get(ServiceAccount, account_id)
    if account is None or (account.organization_id, account.project_id) != (organization_id, project_id):
        raise NotFound("No such service account.", code="not_found")


async def list_service_accounts(
    session: AsyncSession, organization_id: UUID, project_id: UUID
) -> list[ServiceAccount]:
    """The project's service accounts, oldest first; none for a project that is not one's own."""
    query = (
        select(ServiceAccount)
        .where(ServiceAccount.organization_id == organization_id, ServiceAccount.project_id == project_id)
        .order_by(ServiceAccount.id)
    )
    return list(await session.scalars(query))


async def _project(session: AsyncSession, organization_id: UUID, project_id: UUID) -> Project:
    # Locked: a key made while the project is being archived would outlive it unseen.
    query = (
        select(Project)
        .where(Project.organization_id == organization_id, Project.id == project_id)
        .with_for_update(key_share=True)
    )
    project = await session.scalar(query)
    if project is None:
        raise _no_project()
    return project


def _no_project() -> NotFound:
    return NotFound("No such project.", code="not_found")
