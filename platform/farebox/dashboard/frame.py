"""What every page of a signed-in person shows around its content."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from farebox.auth.dependencies import SignedIn
from farebox.core.errors import Forbidden, NotFound
from farebox.core.ids import internal
from farebox.core.settings import Settings
from farebox.tenants.organizations import ProjectName, find_organization, list_project_names


@dataclass(frozen=True)
class Frame:
    """Who is signed in, where, and which project is looked at (None: all of them)."""

    person: SignedIn
    organization: str
    projects: Sequence[ProjectName]
    project_id: UUID | None
    currency: str
    base_url: str

    @property
    def administers(self) -> bool:
        return may_administer(self.person)


async def load_frame(session: AsyncSession, person: SignedIn, settings: Settings, project: str = "") -> Frame:
    """Raises NotFound for a project, given by its external id, that is absent or another tenant's."""
    organization = await find_organization(session, person.organization_id)
    projects = await list_project_names(session, person.organization_id)
    project_id = internal("proj", project) if project else None
    if organization is None or (project_id and project_id not in {each.id for each in projects}):
        raise NotFound("No such project.", code="not_found")
    return Frame(
        person=person,
        organization=organization.name,
        projects=projects,
        project_id=project_id,
        currency=settings.currency,
        base_url=settings.public_url,
    )


def may_administer(person: SignedIn) -> bool:
    """Owners and admins change limits and projects; members make and revoke keys of their own."""
    return person.role in ("owner", "admin")


def require_administrator(person: SignedIn) -> None:
    if not may_administer(person):
        raise Forbidden("Only an owner or an admin of the organization may do this.", code="forbidden")
