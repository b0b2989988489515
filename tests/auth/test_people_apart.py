"""What the application's role gets to see of people, whatever statement a page runs."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from farebox.auth import links, sessions
from farebox.auth.tokens import digest_of
from farebox.core.database import Database
from farebox.core.ids import new_id
from tests.tenants.factories import an_email, make_account

EVERYBODY = {
    "app_user": "SELECT id FROM app_user",
    "user_session": "SELECT user_id FROM user_session",
    "email_token": "SELECT user_id FROM email_token",
    "membership": "SELECT user_id FROM membership",
}


@dataclass
class Person:
    """Somebody with two sessions and a mailed link."""

    user_id: UUID
    organization_id: UUID
    email: str = field(default_factory=an_email)
    tokens: list[str] = field(default_factory=list)
    link: str = ""


async def make_person(database: Database) -> Person:
    email = an_email()
    account = await make_account(database, email=email)
    person = Person(account.user_id, account.organization_id, email)
    async with database.transaction(user_id=person.user_id) as session:
        person.tokens = [await sessions.create(session, person.user_id) for _ in range(2)]
        person.link = await links.mint_token(session, person.user_id, "reset")
    return person


@pytest.fixture
async def mine(database: Database) -> Person:
    return await make_person(database)


@pytest.fixture
async def theirs(database: Database) -> AsyncIterator[Person]:
    """Somebody else, who has afterwards what they had before."""
    person = await make_person(database)
    before = await everything_of(database, person)
    yield person
    assert await everything_of(database, person) == before


async def everything_of(database: Database, person: Person) -> list[str]:
    async with database.transaction(user_id=person.user_id) as session:
        return [
            row
            for table in EVERYBODY
            for row in sorted(await session.scalars(text(f"SELECT x::text FROM {table} x")))  # noqa: S608
        ]


async def seen(database: Database, **shown: Any) -> dict[str, list[UUID]]:
    """Whose rows a transaction gets that asks for everybody's, by tables; empty ones left out."""
    async with database.transaction(**shown) as session:
        found = {table: list(await session.scalars(text(query))) for table, query in EVERYBODY.items()}
    return {table: ids for table, ids in found.items() if ids}


async def refusal(database: Database, statement: str, parameters: dict[str, Any], **shown: Any) -> str:
    with pytest.raises(DBAPIError) as caught:
        async with database.transaction(**shown) as session:
            await session.execute(text(statement), parameters)
    return str(caught.value.orig)


@pytest.mark.usefixtures("mine", "theirs")
async def test_who_shows_nothing_sees_nobody(database: Database) -> None:
    assert await seen(database) == {}
    nothing = {"email": an_email(), "token_sha256": digest_of(""), "user_id": new_id()}
    for name, value in nothing.items():
        assert await seen(database, **{name: value}) == {}, name


@pytest.mark.usefixtures("theirs")
async def test_an_address_opens_its_account_and_no_session(database: Database, mine: Person) -> None:
    assert await seen(database, email=mine.email) == {"app_user": [mine.user_id]}


@pytest.mark.usefixtures("theirs")
async def test_a_sessions_token_opens_that_session_and_its_person(database: Database, mine: Person) -> None:
    shown = digest_of(mine.tokens[0])
    assert await seen(database, token_sha256=shown) == {
        "app_user": [mine.user_id],
        "user_session": [mine.user_id],
    }


@pytest.mark.usefixtures("theirs")
async def test_a_mailed_links_token_opens_that_link_and_its_person(database: Database, mine: Person) -> None:
    assert await seen(database, token_sha256=digest_of(mine.link)) == {
        "app_user": [mine.user_id],
        "email_token": [mine.user_id],
    }


@pytest.mark.usefixtures("theirs")
async def test_a_person_sees_what_is_theirs(database: Database, mine: Person) -> None:
    assert await seen(database, user_id=mine.user_id) == {
        "app_user": [mine.user_id],
        "user_session": [mine.user_id] * 2,
        "email_token": [mine.user_id],
        "membership": [mine.user_id],
    }


async def test_a_tenants_pages_see_no_password_not_even_of_members(database: Database, mine: Person) -> None:
    assert await seen(database, organization_id=mine.organization_id) == {"membership": [mine.user_id]}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE app_user SET password_hash = '!'",
        "UPDATE app_user SET email_verified_at = NULL",
        "UPDATE user_session SET last_seen_at = now() - interval '1 day'",
        "DELETE FROM user_session",
        "DELETE FROM email_token",
        "DELETE FROM membership",
    ],
)
@pytest.mark.usefixtures("theirs")
async def test_a_statement_that_forgot_its_condition_reaches_nobody_else(
    database: Database, mine: Person, statement: str
) -> None:
    """The fixture looks whether the others still have all they had."""
    shown: dict[str, Any] = {"user_id": mine.user_id, "email": mine.email}
    shown["token_sha256"] = digest_of(mine.tokens[0])
    async with database.transaction(organization_id=mine.organization_id, **shown) as session:
        done = await session.execute(text(statement))
    assert done.rowcount > 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO user_session (token_sha256, user_id, expires_at) VALUES (:token, :user, now())",
        "INSERT INTO email_token (token_sha256, user_id, purpose, expires_at)"
        " VALUES (:token, :user, 'reset', now())",
    ],
)
async def test_nobody_gets_a_session_or_a_link_of_another(
    database: Database, mine: Person, theirs: Person, statement: str
) -> None:
    token = digest_of("planted")
    shown = {"user_id": mine.user_id, "email": mine.email, "token_sha256": token}
    parameters = {"token": token, "user": theirs.user_id}
    assert "row-level security" in await refusal(database, statement, parameters, **shown)


async def test_a_session_cannot_be_given_to_another(database: Database, mine: Person, theirs: Person) -> None:
    shown = {"user_id": mine.user_id, "token_sha256": digest_of(mine.tokens[0])}
    statement = "UPDATE user_session SET user_id = :user"
    assert "permission denied" in await refusal(database, statement, {"user": theirs.user_id}, **shown)


async def test_a_shown_link_is_not_used_up_by_showing_it(database: Database, mine: Person) -> None:
    async with database.transaction(token_sha256=digest_of(mine.link)) as session:
        await session.execute(text("DELETE FROM email_token"))
    assert "email_token" in await seen(database, user_id=mine.user_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE organization SET status = 'active'",
        "UPDATE organization SET created_at = now()",
        "INSERT INTO organization (id, name, status) VALUES (gen_random_uuid(), 'x', 'active')",
        "UPDATE app_user SET email = 'new@example.com'",
        "UPDATE membership SET user_id = gen_random_uuid()",
        "UPDATE project SET organization_id = gen_random_uuid()",
        "DELETE FROM app_user",
        "DELETE FROM audit_event",
        "UPDATE audit_event SET action = 'x'",
    ],
)
async def test_no_page_can_write_what_is_the_operators(
    database: Database, mine: Person, statement: str
) -> None:
    shown = {"organization_id": mine.organization_id, "user_id": mine.user_id, "email": mine.email}
    assert "permission denied" in await refusal(database, statement, {}, **shown)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT password_hash FROM app_user",
        "SELECT token_sha256 FROM user_session",
        "SELECT token_sha256 FROM email_token",
        "SELECT subject FROM sign_in_throttle",
        "UPDATE organization SET status = 'active'",
        "UPDATE app_user SET password_hash = '!'",
    ],
)
async def test_the_meter_sees_no_secret_of_a_person(database: Database, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.meter_transaction() as session:
            await session.execute(text(statement))
