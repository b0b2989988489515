"""`/auth/…` over HTTP: cookies, identical answers, forged requests."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from httpx import AsyncClient, Response

from farebox.auth import throttle
from farebox.auth.passwords import PasswordHasher
from farebox.core.database import Database
from tests.auth.conftest import make_doors, visit
from tests.core.mailbox import Mailbox, deliver, token_in
from tests.tenants.factories import SETTINGS, an_address, an_email

PASSWORD = "correct horse battery"
PRODUCTION = msgspec.structs.replace(SETTINGS, env="production", base_url="https://farebox.example")


async def sign_up(client: AsyncClient, email: str) -> Response:
    form = {"email": email, "password": PASSWORD, "name": "Ada", "organization": "Acme"}
    return await client.post("/auth/signup", json=form)


async def sign_in(client: AsyncClient, email: str, password: str = PASSWORD, **options: Any) -> Response:
    return await client.post("/auth/signin", json={"email": email, "password": password}, **options)


@pytest.fixture
async def email(client: AsyncClient) -> str:
    """The address of somebody who has signed up."""
    email = an_email()
    assert (await sign_up(client, email)).status_code == 202
    return email


@pytest.fixture
async def csrf_token(client: AsyncClient, email: str) -> str:
    """That of a session whose cookie the client holds."""
    response = await sign_in(client, email)
    assert response.status_code == 200
    return str(response.json()["csrf_token"])


@pytest.fixture
async def production(database: Database, passwords: PasswordHasher) -> AsyncIterator[AsyncClient]:
    async with visit(make_doors(database, passwords, PRODUCTION), address=an_address()) as client:
        client.base_url = httpx.URL("https://farebox.example")
        yield client


def said(response: Response) -> tuple[int, Any]:
    """All that an answer tells, but for the request id."""
    body = response.json()
    if "error" in body:
        body["error"].pop("request_id")
    return response.status_code, body


async def test_a_newcomer_signs_up_in_and_out(client: AsyncClient) -> None:
    email = an_email()
    assert (await sign_up(client, email)).status_code == 202
    csrf_token = (await sign_in(client, email)).json()["csrf_token"]
    session = (await client.get("/auth/session")).json()
    assert (session["email"], session["role"], session["csrf_token"]) == (email, "owner", csrf_token)
    left = await client.post("/auth/signout", headers={"X-CSRF-Token": csrf_token})
    assert left.status_code == 204
    assert "farebox_session" not in client.cookies
    assert (await client.get("/auth/session")).status_code == 401


async def test_sign_out_ends_the_session_even_for_a_copied_cookie(
    client: AsyncClient, csrf_token: str
) -> None:
    copied = dict(client.cookies)
    await client.post("/auth/signout", headers={"X-CSRF-Token": csrf_token})
    client.cookies.update(copied)
    assert (await client.get("/auth/session")).status_code == 401


async def test_known_and_unknown_addresses_get_the_same_answers(client: AsyncClient, email: str) -> None:
    unknown = an_email()
    assert said(await sign_in(client, email, "a wrong password")) == said(
        await sign_in(client, unknown, "a wrong password")
    )
    asked = [await client.post("/auth/forgot", json={"email": who}) for who in (email, unknown)]
    assert said(asked[0]) == said(asked[1])
    assert said(await sign_up(client, email)) == said(await sign_up(client, unknown))


async def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(client: AsyncClient, email: str) -> None:
    header, _device = (await sign_in(client, email)).headers.get_list("set-cookie")
    name, *attributes = header.split("; ")
    assert name.startswith("farebox_session=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Max-Age=43200"} <= set(attributes)


async def test_signing_in_replaces_the_session_that_the_browser_held(client: AsyncClient, email: str) -> None:
    await sign_in(client, email)
    planted = dict(client.cookies)
    await sign_in(client, email)
    assert dict(client.cookies) != planted
    client.cookies.clear()
    client.cookies.update(planted)
    assert (await client.get("/auth/session")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-CSRF-Token": "x" * 43},
        {"X-CSRF-Token": ""},
        {"Origin": "http://127.0.0.1:8000"},
    ],
    ids=str,
)
async def test_an_unsafe_request_without_the_token_is_refused(
    client: AsyncClient, csrf_token: str, headers: dict[str, str]
) -> None:
    assert (await client.post("/auth/signout", headers=headers)).status_code == 403
    assert (await client.get("/auth/session")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}],
    ids=str,
)
async def test_an_unsafe_request_from_another_site_is_refused(
    client: AsyncClient, email: str, csrf_token: str, headers: dict[str, str]
) -> None:
    forged = await client.post("/auth/signout", headers=headers | {"X-CSRF-Token": csrf_token})
    assert forged.status_code == 403
    client.cookies.clear()
    assert (await sign_in(client, email, headers=headers)).status_code == 403
    assert not client.cookies


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8000", "http://localhost:8000"])
async def test_our_own_pages_pass_under_whatever_name_development_has(
    client: AsyncClient, csrf_token: str, origin: str
) -> None:
    headers = {"Origin": origin, "Host": origin.removeprefix("http://"), "X-CSRF-Token": csrf_token}
    assert (await client.post("/auth/signout", headers=headers)).status_code == 204


async def test_a_form_may_carry_the_token_in_a_field(client: AsyncClient, csrf_token: str) -> None:
    refused = await client.post("/auth/signout", data={"csrf_token": "wrong"})
    assert refused.status_code == 403
    assert (await client.post("/auth/signout", data={"csrf_token": csrf_token})).status_code == 204


async def test_the_token_of_another_session_does_not_fit(
    client: AsyncClient, email: str, csrf_token: str
) -> None:
    client.cookies.clear()
    await sign_in(client, email)
    refused = await client.post("/auth/signout", headers={"X-CSRF-Token": csrf_token})
    assert refused.status_code == 403


async def test_production_demands_its_own_origin_and_host_cookie(
    production: AsyncClient, database: Database
) -> None:
    email = an_email()
    async with Mailbox().open() as mailbox:
        assert (await sign_up(production, email)).status_code == 202
        assert (await sign_in(production, email)).status_code == 401
        await deliver(database, msgspec.structs.replace(PRODUCTION, smtp_url=mailbox.url), email)
    form = {"token": token_in(mailbox.of(email)[0]), "password": PASSWORD}
    elsewhere = {"Origin": "https://other.example", "Host": "other.example"}
    assert (await production.post("/auth/verify", json=form, headers=elsewhere)).status_code == 403
    confirmed = await production.post(
        "/auth/verify", json=form, headers={"Origin": "https://farebox.example"}
    )
    assert confirmed.status_code == 200
    header, _device = confirmed.headers.get_list("set-cookie")
    assert header.startswith("__Host-farebox=")
    assert "Secure" in header
    assert (await production.get("/auth/session")).json()["email"] == email


async def test_a_password_is_reset_by_link(client: AsyncClient, database: Database, email: str) -> None:
    async with Mailbox().open() as mailbox:
        settings = msgspec.structs.replace(SETTINGS, smtp_url=mailbox.url)
        await deliver(database, settings, email)
        assert (await client.post("/auth/forgot", json={"email": email})).status_code == 202
        await deliver(database, settings, email)
    await sign_in(client, email)
    form = {"token": token_in(mailbox.of(email)[-1]), "password": "a brand new password"}
    assert (await client.post("/auth/reset", json=form)).status_code == 204
    assert (await client.get("/auth/session")).status_code == 401
    assert (await client.post("/auth/reset", json=form)).json()["error"]["code"] == "invalid_link"
    assert (await sign_in(client, email, "a brand new password")).status_code == 200


async def test_guessing_is_put_off_with_a_time(client: AsyncClient, email: str) -> None:
    answers = [await sign_in(client, email, "a wrong password") for _ in range(throttle.ACCOUNT.free + 2)]
    assert [answer.status_code for answer in answers] == [401] * (throttle.ACCOUNT.free + 1) + [429]
    assert int(answers[-1].headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b'{"email": "a@b.c", "password": "x"}', "text/plain", 415),
        (b"email=a@b.c&password=x", "application/x-www-form-urlencoded", 415),
        (b'{"email": "a@b.c"}', "application/json", 400),
        (b'{"email": "a@b.c", "password": 1}', "application/json", 400),
        (b'{"email": "a@b.c", "password": "x", "admin": true}', "application/json", 400),
        (b'{"email": "a@b.c", "email": "a@b.c", "password": "x"}', "application/json", 400),
        (b'{"email": "a\\u0000@b.c", "password": "correct horse"}', "application/json", 400),
        (b'{"email": "a@b.c", "password": "\\ud800 correct horse"}', "application/json", 400),
        (b"\xff", "application/json", 400),
    ],
)
async def test_bad_bodies_are_the_callers_fault(
    client: AsyncClient, content: bytes, content_type: str, status: int
) -> None:
    response = await client.post("/auth/signin", content=content, headers={"Content-Type": content_type})
    assert response.status_code == status, response.text


@pytest.mark.parametrize("cookie", ["", "x", "é", "a" * 4000, '"; DROP TABLE user_session'])
async def test_a_made_up_cookie_is_no_session(client: AsyncClient, cookie: str) -> None:
    headers = {b"cookie": b"farebox_session=" + cookie.encode()}
    assert (await client.get("/auth/session", headers=headers)).status_code == 401
