"""What a stranger who knows only an address may not learn, take or break."""

import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest
from httpx import AsyncClient, Response
from sqlalchemy import Engine, func, update
from sqlalchemy.event import listen, remove

from farebox.auth import sessions, throttle
from farebox.auth.passwords import PasswordHasher
from farebox.core.database import Database
from farebox.core.settings import Settings
from farebox.keys.errors import InvalidApiKey
from farebox.keys.service import authenticate
from farebox.tenants.accounts import find_user
from farebox.tenants.models import User
from tests.auth.conftest import make_doors, visit
from tests.core.mailbox import Mailbox, deliver, token_in
from tests.tenants.factories import SETTINGS, an_address, an_email, make_account, make_key, make_keyring

PASSWORD = "correct horse battery"
NEW_PASSWORD = "a brand new password"
STRANGERS = "the stranger's password"


@dataclass
class Site:
    """A Farebox as the network sees it, and where its mails go."""

    database: Database
    passwords: PasswordHasher
    settings: Settings
    mailbox: Mailbox

    @asynccontextmanager
    async def browser(self) -> AsyncIterator[AsyncClient]:
        """Somebody with an IP address and a cookie jar of their own."""
        doors = make_doors(self.database, self.passwords, self.settings)
        async with visit(doors, address=an_address()) as client:
            client.base_url = httpx.URL(self.settings.public_url)
            yield client

    async def link(self, email: str) -> str:
        """The token of the newest mail, after what is due was sent."""
        await deliver(self.database, self.settings, email)
        return token_in(self.mailbox.of(email)[-1])

    async def reset(self, browser: AsyncClient, email: str) -> Response:
        assert (await browser.post("/auth/forgot", json={"email": email})).status_code == 202
        form = {"token": await self.link(email), "password": NEW_PASSWORD}
        return await browser.post("/auth/reset", json=form)


@pytest.fixture
async def development(database: Database, passwords: PasswordHasher) -> AsyncIterator[Site]:
    async with Mailbox().open() as mailbox:
        settings = msgspec.structs.replace(SETTINGS, smtp_url=mailbox.url)
        yield Site(database, passwords, settings, mailbox)


@pytest.fixture
def production(development: Site) -> Site:
    development.settings = msgspec.structs.replace(
        development.settings, env="production", base_url="https://farebox.example"
    )
    return development


async def sign_up(browser: AsyncClient, email: str, password: str = PASSWORD) -> Response:
    form = {"email": email, "password": password, "name": "Ada", "organization": "Acme"}
    return await browser.post("/auth/signup", json=form)


async def sign_in(browser: AsyncClient, email: str, password: str = PASSWORD) -> Response:
    return await browser.post("/auth/signin", json={"email": email, "password": password})


async def is_signed_in(browser: AsyncClient) -> bool:
    return (await browser.get("/auth/session")).status_code == 200


async def lock(browser: AsyncClient, email: str) -> None:
    """Guess until the account's back-off says no to everybody."""
    answers = [await sign_in(browser, email, STRANGERS) for _ in range(throttle.ACCOUNT.free + 2)]
    assert answers[-1].status_code == 429


def said(response: Response) -> tuple[int, Any]:
    body = response.json()
    body["error"].pop("request_id")
    return response.status_code, body


async def test_signing_up_and_in_with_one_password_does_not_tell_who_has_an_account(production: Site) -> None:
    known, unknown = an_email(), an_email()
    await make_account(production.database, email=known)
    answers, work = [], []
    async with production.browser() as stranger:
        for email in (known, unknown):
            assert (await sign_up(stranger, email, STRANGERS)).status_code == 202
            before = production.passwords.performed
            answers.append(said(await sign_in(stranger, email, STRANGERS)))
            work.append(production.passwords.performed - before)
        assert answers[0] == answers[1]
        assert work == [1, 1]
        # Nor by when the back-off begins: a right password that opens nothing counts as a wrong one.
        tries = {
            email: [(await sign_in(stranger, email, STRANGERS)).status_code for _ in range(7)]
            for email in (known, unknown)
        }
    assert tries[known] == tries[unknown]
    assert 429 in tries[known]


async def test_a_confirmation_ends_the_sessions_from_before_it(development: Site) -> None:
    email = an_email()
    async with development.browser() as before, development.browser() as owner:
        await sign_up(owner, email)
        await sign_in(before, email)
        assert await is_signed_in(before)
        form = {"token": await development.link(email), "password": PASSWORD}
        assert (await owner.post("/auth/verify", json=form)).status_code == 200
        assert await is_signed_in(owner)
        assert not await is_signed_in(before)


async def test_whoever_owns_the_mailbox_takes_the_account_from_who_came_first(development: Site) -> None:
    email = an_email()
    async with development.browser() as stranger, development.browser() as owner:
        await sign_up(stranger, email, STRANGERS)
        await sign_in(stranger, email, STRANGERS)
        assert await is_signed_in(stranger)
        await sign_up(owner, email)
        confirmation = {"token": await development.link(email), "password": PASSWORD}
        assert (await owner.post("/auth/verify", json=confirmation)).status_code == 401
        assert (await development.reset(owner, email)).status_code == 204
        assert not await is_signed_in(stranger)
        assert (await sign_in(stranger, email, STRANGERS)).status_code == 401
        assert (await sign_in(owner, email, NEW_PASSWORD)).status_code == 200


@pytest.mark.parametrize("verified", [False, True])
async def test_a_first_proof_of_the_mailbox_ends_the_keys_of_who_came_first(
    development: Site, verified: bool
) -> None:
    """Development lets people in unconfirmed, so a stranger may have made keys; a later reset ends none."""
    email, database = an_email(), development.database
    keyring = await make_keyring(database)
    account = await make_account(database, email=email, verified=verified)
    key = await make_key(database, keyring, account)
    other = await make_key(database, keyring, await make_account(database, verified=False))
    async with development.browser() as owner:
        assert (await development.reset(owner, email)).status_code == 204
    await authenticate(database, keyring.verify(other.token))
    if verified:
        await authenticate(database, keyring.verify(key.token))
    else:
        with pytest.raises(InvalidApiKey):
            await authenticate(database, keyring.verify(key.token))


async def test_a_reset_ends_every_other_link(development: Site) -> None:
    email = an_email()
    async with development.browser() as owner:
        await sign_up(owner, email)
        confirmation = {"token": await development.link(email), "password": NEW_PASSWORD}
        assert (await development.reset(owner, email)).status_code == 204
        answer = await owner.post("/auth/verify", json=confirmation)
    assert answer.json()["error"]["code"] == "invalid_link"


async def test_guessing_does_not_keep_a_newcomer_from_confirming(production: Site) -> None:
    email = an_email()
    async with production.browser() as stranger, production.browser() as owner:
        await sign_up(owner, email)
        await lock(stranger, email)
        form = {"token": await production.link(email), "password": PASSWORD}
        assert (await owner.post("/auth/verify", json=form)).status_code == 200


async def test_the_password_of_a_link_cannot_be_guessed_at_leisure(production: Site) -> None:
    email = an_email()
    async with production.browser() as owner:
        await sign_up(owner, email)
        form = {"token": await production.link(email), "password": STRANGERS}
        answers = [await owner.post("/auth/verify", json=form) for _ in range(throttle.ACCOUNT.free + 2)]
    assert [each.status_code for each in answers] == [401] * (throttle.ACCOUNT.free + 1) + [429]


async def test_guessing_does_not_lock_the_owner_out_of_a_browser_they_used(development: Site) -> None:
    email = an_email()
    async with development.browser() as stranger, development.browser() as owner:
        await sign_up(owner, email)
        await sign_in(owner, email)
        await lock(stranger, email)
        assert (await sign_in(owner, email)).status_code == 200
        # The owner's success takes nothing from the back-off that the stranger ran into.
        assert (await sign_in(stranger, email, STRANGERS)).status_code == 429


async def test_a_reset_lets_the_owner_in_however_busy_the_stranger_is(development: Site) -> None:
    email = an_email()
    async with development.browser() as stranger, development.browser() as owner:
        await sign_up(owner, email)
        await lock(stranger, email)
        await development.link(email)
        assert (await development.reset(owner, email)).status_code == 204
        await lock(stranger, email)
        assert (await sign_in(owner, email, NEW_PASSWORD)).status_code == 200


async def test_a_known_browser_has_a_back_off_of_its_own(development: Site) -> None:
    """A stolen one guesses no faster than a strange one, and only at the account that it knows."""
    email, other = an_email(), an_email()
    async with development.browser() as thief, development.browser() as stranger:
        for each in (email, other):
            await sign_up(thief, each)
        await sign_in(thief, email)
        await lock(thief, email)
        await lock(stranger, other)
        assert (await sign_in(thief, other)).status_code == 429


async def test_a_reset_makes_every_browser_a_strange_one_again(development: Site) -> None:
    email = an_email()
    async with development.browser() as thief, development.browser() as owner:
        await sign_up(thief, email)
        await sign_in(thief, email)
        await development.link(email)
        await development.reset(owner, email)
        await lock(owner, email)  # as a known browser; the account's own count stays empty
        await lock(thief, email)
        async with development.browser() as stranger:
            assert (await sign_in(stranger, email, NEW_PASSWORD)).status_code == 429


async def test_production_knows_no_session_of_an_unconfirmed_address(production: Site) -> None:
    """Not even one that the same database has from its days in development."""
    email = an_email()
    await make_account(production.database, email=email, verified=False)
    async with production.database.transaction(email=email) as session:
        user = await find_user(session, email)
        assert user is not None
    async with production.database.transaction(user_id=user.id) as session:
        token = await sessions.create(session, user.id)
    async with production.browser() as browser:
        browser.cookies.set(sessions.cookie_name(production.settings), token)
        assert not await is_signed_in(browser)
        async with production.database.transaction(user_id=user.id) as session:
            await session.execute(update(User).where(User.id == user.id).values(email_verified_at=func.now()))
        assert await is_signed_in(browser)


async def test_no_answer_about_a_person_is_kept_by_a_cache(development: Site) -> None:
    email = an_email()
    async with development.browser() as owner:
        answers = [await sign_up(owner, email), await sign_in(owner, email), await owner.get("/auth/session")]
    assert [each.headers.get("cache-control") for each in answers] == ["no-store"] * 3


async def test_the_device_cookie_is_bound_like_the_sessions(production: Site) -> None:
    email = an_email()
    async with production.browser() as owner:
        await sign_up(owner, email)
        form = {"token": await production.link(email), "password": PASSWORD}
        headers = (await owner.post("/auth/verify", json=form)).headers.get_list("set-cookie")
    device = next(each for each in headers if each.startswith("__Host-farebox-device="))
    assert {"HttpOnly", "Secure", "Path=/", "SameSite=lax"} <= set(device.split("; "))
    assert "Domain" not in device


@pytest.mark.parametrize("cookie", ["", ".", "x.y", "é.é", "a" * 4000])
async def test_a_made_up_device_is_a_strange_one(development: Site, cookie: str) -> None:
    email = an_email()
    async with development.browser() as owner, development.browser() as stranger:
        await sign_up(owner, email)
        await lock(stranger, email)
        headers = {b"cookie": b"farebox_device=" + cookie.encode()}
        form = {"email": email, "password": PASSWORD}
        assert (await owner.post("/auth/signin", json=form, headers=headers)).status_code == 429


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is asked of Postgres meanwhile, in order; not what servers in threads of their own ask."""
    asked: list[str] = []
    here = threading.get_ident()

    def note(*event: Any) -> None:
        if threading.get_ident() != here:
            return
        # Made for an unknown address, and made in vain for a known one: the work is the same.
        asked.append(re.sub("^(ROLLBACK TO|RELEASE) SAVEPOINT", "END SAVEPOINT", event[2]))

    listen(Engine, "before_cursor_execute", note)
    yield asked
    remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("verified", [True, False])
async def test_known_and_unknown_addresses_cost_the_same_work(production: Site, verified: bool) -> None:
    """Statement by statement and hash by hash: what takes as long tells as little."""
    known, unknown = an_email(), an_email()
    await make_account(production.database, email=known, verified=verified)
    work: dict[str, list[tuple[list[str], int]]] = {known: [], unknown: []}
    async with production.browser() as stranger:
        for email in (known, unknown):
            for path, fields in (
                ("/auth/signin", {"password": STRANGERS}),
                ("/auth/forgot", {}),
                ("/auth/signup", {"password": STRANGERS, "name": "Eve", "organization": "Evil"}),
            ):
                hashes = production.passwords.performed
                with statements() as asked:
                    answer = await stranger.post(path, json={"email": email} | fields)
                assert answer.status_code in (202, 401)
                work[email].append((asked, production.passwords.performed - hashes))
    assert work[known] == work[unknown]
    assert [hashes for _, hashes in work[known]] == [1, 0, 1]
    assert all(len(asked) >= 3 for asked, _ in work[known])


@pytest.mark.parametrize(
    "base_url", ["https://farebox.example:443", "https://Farebox.Example", "https://farebox.example/"]
)
async def test_a_public_address_is_known_however_it_is_written(production: Site, base_url: str) -> None:
    """Browsers write their Origin in one way; were ours written in another, nobody could sign in."""
    production.settings = msgspec.structs.replace(production.settings, base_url=base_url)
    form = {"email": an_email()}
    async with production.browser() as browser:
        own, other = [
            await browser.post("/auth/forgot", json=form, headers={"origin": origin})
            for origin in ("https://farebox.example", "https://farebox.example:8443")
        ]
    assert (own.status_code, other.status_code) == (202, 403)
