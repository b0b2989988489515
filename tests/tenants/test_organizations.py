"""Projects and service accounts: each tenant its own, each deed on record."""

import pytest

from farebox.core.database import Database
from farebox.core.errors import BadRequest, NotFound
from farebox.core.ids import external, new_id
from farebox.tenants.audit import list_events
from farebox.tenants.organizations import (
    archive_project,
    create_project,
    create_service_account,
    list_projects,
    list_service_accounts,
)
from tests.tenants.factories import make_account


async def test_an_organization_starts_with_an_owner_and_a_project(database: Database) -> None:
    account = await make_account(database)
    async with database.transaction(organization_id=account.organization_id) as session:
        (project,) = await list_projects(session, account.organization_id)
        events = await list_events(session, account.organization_id)
    assert (project.id, project.name) == (account.project_id, "Default")
    assert {(event.action, event.actor_id) for event in events} == {
        ("organization.created", account.user_id),
        ("project.created", account.user_id),
    }


async def test_projects_are_made_listed_and_archived_for_good(database: Database) -> None:
    account = await make_account(database)
    organization_id = account.organization_id
    async with database.transaction(organization_id=organization_id) as session:
        project = await create_project(
            session, organization_id=organization_id, name=" Search ", actor_id=account.user_id
        )
        for _ in range(2):
            await archive_project(
                session, organization_id=organization_id, project_id=project.id, actor_id=account.user_id
            )
        assert [p.id for p in await list_projects(session, organization_id)] == [account.project_id]
        everything = await list_projects(session, organization_id, with_archived=True)
        events = await list_events(session, organization_id)
    assert [p.name for p in everything] == ["Default", "Search"]
    about_it = [event.action for event in events if event.target == external("proj", project.id)]
    assert about_it == ["project.archived", "project.created"]


async def test_service_accounts_live_in_an_open_project(database: Database) -> None:
    account = await make_account(database)
    place = {"organization_id": account.organization_id, "project_id": account.project_id}
    async with database.transaction(organization_id=account.organization_id) as session:
        made = await create_service_account(session, **place, name="Robot", actor_id=account.user_id)
        (listed,) = await list_service_accounts(session, **place)
        await archive_project(session, **place, actor_id=account.user_id)
        with pytest.raises(NotFound):
            await create_service_account(session, **place, name="Late", actor_id=account.user_id)
    assert (listed.id, listed.name) == (made.id, "Robot")


async def test_others_projects_are_as_absent_as_none(database: Database) -> None:
    mine, theirs = await make_account(database), await make_account(database)
    words = []
    async with database.transaction(organization_id=mine.organization_id) as session:
        for project_id in (theirs.project_id, new_id()):
            place = {"organization_id": mine.organization_id, "project_id": project_id}
            for deed in (
                archive_project(session, **place, actor_id=None),
                create_service_account(session, **place, name="Spy", actor_id=None),
            ):
                with pytest.raises(NotFound) as refusal:
                    await deed
                words.append(refusal.value.envelope(None))
            assert await list_service_accounts(session, **place) == []
        assert await list_projects(session, theirs.organization_id) == []
        assert await list_events(session, theirs.organization_id) == []
    assert words == [words[0]] * 4


@pytest.mark.parametrize("name", ["", "   ", "a" * 101, "line\nbreak", "nul\x00"], ids=repr)
async def test_a_bad_name_is_refused(database: Database, name: str) -> None:
    account = await make_account(database)
    with pytest.raises(BadRequest):
        async with database.transaction(organization_id=account.organization_id) as session:
            await create_project(session, organization_id=account.organization_id, name=name, actor_id=None)
