"""Sign-up, sign-in, sign-out and mailed links, by their forms."""

from uuid import UUID

import pytest
from sqlalchemy import select

from farebox.auth import links, throttle
from farebox.core.database import Database
from farebox.tenants.models import User
from tests.dashboard.browsers import FormBrowser, Forms, Member, text_of
from tests.gateway.servers import RunningServer
from tests.tenants.factories import an_email

PASSWORD = "correct horse battery"


async def sign_up(browser: FormBrowser, email: str) -> str:
    """The page that answers."""
    answer = await browser.submit(
        "/sign-up", "/sign-up", name="Ada", organization="Acme", email=email, password=PASSWORD
    )
    assert answer.status_code == 200
    assert "Check your mail" in answer.text
    return answer.text


async def user_id_of(database: Database, email: str) -> UUID:
    async with database.transaction(email=email) as session:
        user_id = await session.scalar(select(User.id).where(User.email == email))
    assert user_id is not None
    return user_id


async def mailed_token(database: Database, email: str, purpose: links.Purpose) -> str:
    """What the worker would put into the mail."""
    user_id = await user_id_of(database, email)
    async with database.transaction(user_id=user_id) as session:
        return await links.mint_token(session, user_id, purpose)


async def test_a_newcomer_signs_up_and_in(visitor: FormBrowser) -> None:
    email = an_email()
    await sign_up(visitor, email)
    answer = await visitor.submit("/sign-in", "/sign-in", email=email, password=PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview")
    page = await visitor.get("/overview")
    assert "Acme" in page.text
    assert "Make the first call" in page.text


async def test_a_known_and_an_unknown_address_sign_up_alike(visitor: FormBrowser) -> None:
    email = an_email()
    unknown = await sign_up(visitor, email)
    assert await sign_up(visitor, email) == unknown


async def test_a_wrong_password_is_said_on_the_form(visitor: FormBrowser) -> None:
    email = an_email()
    answer = await visitor.submit("/sign-in", "/sign-in", email=email, password="something else entirely")
    assert answer.status_code == 401
    assert "The e-mail address or the password is wrong." in answer.text
    assert f'value="{email}"' in answer.text
    assert "something else entirely" not in answer.text


async def test_a_short_password_is_said_on_the_form(visitor: FormBrowser) -> None:
    answer = await visitor.submit(
        "/sign-up", "/sign-up", name="Ada", organization="Acme", email=an_email(), password="short"
    )
    assert answer.status_code == 400
    assert "12 to 128 characters" in answer.text
    assert 'value="Ada"' in answer.text


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("name", "x" * 101, "Write a name of 1 to 100 characters"),
        ("organization", "x" * 1001, "Write at most 1,000 characters."),
        ("email", "ada", "This is not an e-mail address."),
        ("password", "short", "12 to 128 characters"),
        ("password", "x" * 1001, "Write at most 1,000 characters."),
    ],
)
async def test_a_fault_is_said_at_its_field_and_all_but_the_password_stays(
    visitor: FormBrowser, name: str, text: str, said: str
) -> None:
    typed = {"name": "Ada", "organization": "Acme", "email": an_email(), "password": PASSWORD} | {name: text}
    answer = await visitor.submit("/sign-up", "/sign-up", **typed)
    assert answer.status_code == 400
    assert said in answer.text.split(f'id="{name}"')[1].split("</p>")[0]
    kept = dict(Forms(answer.text).found)["/sign-up"]
    assert kept.items() >= (typed | {"password": ""}).items()


@pytest.mark.parametrize("path", ["/reset", "/verify"])
async def test_a_password_that_is_too_long_leaves_the_link_in_its_form(
    visitor: FormBrowser, database: Database, path: str
) -> None:
    email = an_email()
    await sign_up(visitor, email)
    token = await mailed_token(database, email, "reset" if path == "/reset" else "verify")
    answer = await visitor.submit(f"{path}?token={token}", path, password="x" * 1001)
    assert answer.status_code == 400
    assert "Write at most 1,000 characters." in answer.text.split('id="password"')[1].split("</p>")[0]
    assert dict(Forms(answer.text).found)[path]["token"] == token


async def test_whoever_is_not_signed_in_is_led_to_the_sign_in_and_back(visitor: FormBrowser) -> None:
    email = an_email()
    await sign_up(visitor, email)
    answer = await visitor.get("/overview?span=30d")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=/overview%3Fspan%3D30d"
    answer = await visitor.submit(answer.headers["location"], "/sign-in", email=email, password=PASSWORD)
    assert answer.headers["location"] == "/overview?span=30d"


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example", "/\\evil.example", "/\t/evil.example", "keys"]
)
async def test_the_way_back_never_leaves_the_site(visitor: FormBrowser, elsewhere: str) -> None:
    email = an_email()
    await sign_up(visitor, email)
    answer = await visitor.submit("/sign-in", "/sign-in", email=email, password=PASSWORD, next=elsewhere)
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview")


async def test_htmx_is_sent_to_the_sign_in_as_a_whole(visitor: FormBrowser) -> None:
    answer = await visitor.get("/overview", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, "/sign-in")


async def test_signing_out_ends_the_session(owner: Member) -> None:
    browser = owner.browser
    token = browser.http.cookies["farebox_session"]
    answer = await browser.submit("/overview", "/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    browser.http.cookies.set("farebox_session", token)
    assert (await browser.get("/overview")).status_code == 303


async def test_a_mailed_link_sets_a_new_password(visitor: FormBrowser, database: Database) -> None:
    email = an_email()
    await sign_up(visitor, email)
    answer = await visitor.submit("/forgot", "/forgot", email=email)
    assert "Check your mail" in answer.text
    path = f"/reset?token={await mailed_token(database, email, 'reset')}"
    answer = await visitor.submit(path, "/reset", password="another long password")
    assert "Your password is changed." in answer.text
    answer = await visitor.submit("/sign-in", "/sign-in", email=email, password="another long password")
    assert answer.status_code == 303
    answer = await visitor.get(path)
    assert answer.status_code == 400
    assert "This link does not work any more" in answer.text
    assert "<form" not in answer.text


async def test_a_link_that_is_used_meanwhile_says_so(visitor: FormBrowser, database: Database) -> None:
    email = an_email()
    await sign_up(visitor, email)
    path = f"/reset?token={await mailed_token(database, email, 'reset')}"
    page = (await visitor.get(path)).text
    await visitor.submit(path, "/reset", password="another long password")
    hidden = Forms(page).found[0][1]
    answer = await visitor.post("/reset", hidden | {"password": "yet another password"})
    assert answer.status_code == 400
    assert "not valid any more" in answer.text


async def test_a_session_that_has_ended_says_so(visitor: FormBrowser, owner: Member) -> None:
    visitor.http.cookies.set("farebox_session", "ended")
    answer = await visitor.get("/keys")
    assert answer.headers["location"] == "/sign-in?next=/keys&ended=true"
    assert "Your session has ended." in (await visitor.get(answer.headers["location"])).text
    answer = await visitor.get("/overview", headers={"hx-request": "true"})
    assert answer.headers["hx-redirect"] == "/sign-in?ended=true"
    answer = await owner.browser.submit("/overview", "/sign-out")
    assert answer.headers["location"] == "/sign-in", "who signs out knows"


@pytest.mark.parametrize("password", ["password1234", "Passw0rd!2026", "aaaaaaaaaaaa"])
async def test_a_common_password_is_refused(visitor: FormBrowser, database: Database, password: str) -> None:
    fields = {"name": "Ada", "organization": "Acme", "email": an_email()}
    answer = await visitor.submit("/sign-up", "/sign-up", **fields, password=password)
    assert answer.status_code == 400
    assert "one of those that are tried first" in answer.text
    email = an_email()
    await sign_up(visitor, email)
    path = f"/reset?token={await mailed_token(database, email, 'reset')}"
    answer = await visitor.submit(path, "/reset", password=password)
    assert "one of those that are tried first" in answer.text


async def test_a_mailed_link_confirms_the_address(visitor: FormBrowser, database: Database) -> None:
    email = an_email()
    await sign_up(visitor, email)
    path = f"/verify?token={await mailed_token(database, email, 'verify')}"
    answer = await visitor.submit(path, "/verify", password="not the password")
    assert answer.status_code == 401
    answer = await visitor.submit(path, "/verify", password=PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/overview")
    assert (await visitor.get("/overview")).status_code == 200


@pytest.mark.parametrize("path", ["/sign-up", "/sign-in", "/forgot", "/reset", "/verify"])
async def test_a_form_of_another_site_is_refused(visitor: FormBrowser, path: str) -> None:
    answer = await visitor.get("/sign-in")
    fields = {"email": an_email(), "password": PASSWORD, "name": "Eve", "organization": "Evil", "token": "x"}
    token = answer.text.split('name="csrf_token" value="')[1].split('"')[0]
    refused = await visitor.post(path, fields | {"csrf_token": token}, origin="https://evil.example")
    assert refused.status_code == 403
    assert "did not come from this site" in text_of(refused.text)
    refused = await visitor.post(path, fields)
    assert refused.status_code == 403
    visitor.http.cookies.clear()
    refused = await visitor.post(path, fields | {"csrf_token": token})
    assert refused.status_code == 403


async def test_guessing_does_not_shut_the_owners_browser_out(
    visitor: FormBrowser, site: RunningServer, database: Database
) -> None:
    """Neither after a sign-in nor after a reset, which both leave a device cookie."""
    email = an_email()
    await sign_up(visitor, email)
    await visitor.submit("/sign-in", "/sign-in", email=email, password=PASSWORD)
    async with FormBrowser(site.url) as stranger:
        await lock(stranger, email)
        answer = await visitor.submit("/sign-in", "/sign-in", email=email, password=PASSWORD)
        assert answer.status_code == 303
        path = f"/reset?token={await mailed_token(database, email, 'reset')}"
        await visitor.submit(path, "/reset", password="another long password")
        await lock(stranger, email)
        answer = await visitor.submit("/sign-in", "/sign-in", email=email, password="another long password")
        assert answer.status_code == 303


async def lock(stranger: FormBrowser, email: str) -> None:
    for _ in range(throttle.ACCOUNT.free + 2):
        answer = await stranger.submit("/sign-in", "/sign-in", email=email, password="only a guess")
    assert answer.status_code == 429
