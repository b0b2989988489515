"""Every route that takes an id, and every route that changes something, tried from outside."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import httpx
import pytest
from litestar.routes import HTTPRoute
from sqlalchemy import delete, update

from farebox.auth import throttle
from farebox.core.database import Database
from farebox.core.ids import external, new_id
from farebox.keys.tokens import Keyring
from farebox.tenants.models import Membership
from tests.dashboard.browsers import FormBrowser, Forms, Member
from tests.gateway.servers import RunningServer, ServerThread, make_settings
from tests.tenants.factories import Tenant, an_address, an_email, make_key, make_tenant

# JSON that only a script of our own origin can send, so that the Origin is all that is asked for.
WELL_FORMED = {
    "/auth/signup": {"email": "a@b.c", "password": "x" * 12, "name": "Eve", "organization": "Evil"},
    "/auth/signin": {"email": "a@b.c", "password": "x" * 12},
    "/auth/verify": {"token": "x", "password": "x" * 12},
    "/auth/forgot": {"email": "a@b.c"},
    "/auth/reset": {"token": "x", "password": "x" * 12},
}
# What anybody may get: the doors themselves, what machines ask, and what has no tenant in it.
PUBLIC = {
    *("/", "/sign-up", "/sign-in", "/forgot", "/reset", "/verify"),
    *("/livez", "/health", "/readyz", "/metrics", "/.well-known/jwks.json"),
    *("/schema", "/schema/openapi.json", "/schema/openapi.yaml", "/schema/openapi.yml", "/docs"),
}
# (how to ask, where, of which kind the id is, the other fields)
ASKS = [
    ("GET", "/overview?project={id}", "proj", {}),
    ("GET", "/limits/{id}", "key", {}),
    ("POST", "/keys", "proj", {"name": "mine", "project": "{id}"}),
    ("POST", "/keys/{id}/revoke", "key", {}),
    ("POST", "/limits/{id}", "org", {"monthly_cap": "1"}),
    ("POST", "/limits/{id}", "proj", {"monthly_cap": "1"}),
    ("POST", "/limits/{id}", "key", {"requests_per_minute": "1"}),
]


def ids_of(tenant: Tenant) -> dict[str, str]:
    return {
        "org": external("org", tenant.organization_id),
        "proj": external("proj", tenant.project_id),
        "key": external("key", tenant.key_id),
    }


async def csrf_of(browser: FormBrowser) -> str:
    return Forms((await browser.get("/overview")).text).found[0][1]["csrf_token"]


async def ask(
    browser: FormBrowser, method: str, path: str, fields: dict[str, str], id_: str
) -> tuple[int, str]:
    """The answer's status and body, but for the id that was asked for and the request's own."""
    path = path.replace("{id}", id_)
    if method == "GET":
        answer = await browser.get(path)
    else:
        filled = {name: value.replace("{id}", id_) for name, value in fields.items()}
        answer = await browser.post(path, filled | {"csrf_token": await csrf_of(browser)})
    return answer.status_code, answer.text.replace(id_, "ID").replace(
        answer.headers["x-request-id"], "REQUEST"
    )


@pytest.mark.parametrize(("method", "path", "kind", "fields"), ASKS)
async def test_what_is_anothers_is_as_absent_as_what_is_not(
    owner: Member,
    database: Database,
    keyring: Keyring,
    method: str,
    path: str,
    kind: str,
    fields: dict[str, str],
) -> None:
    theirs = await make_tenant(database, keyring)
    mine = await ask(owner.browser, method, path, fields, ids_of(owner.tenant)[kind])
    assert mine[0] in (200, 303)
    absent = await ask(owner.browser, method, path, fields, external(kind, new_id()))
    assert absent[0] == 404
    own_of_another_kind = next(each for name, each in ids_of(owner.tenant).items() if name != kind)
    mislabelled = f"{kind}_{own_of_another_kind.partition('_')[2]}"
    for other in (ids_of(theirs)[kind], f"{kind}_0", f"{kind}_{'z' * 32}", mislabelled):
        assert await ask(owner.browser, method, path, fields, other) == absent, other


async def test_a_member_ends_no_key_but_their_own(
    owner: Member, database: Database, keyring: Keyring
) -> None:
    tenant = owner.tenant
    colleague = await make_tenant(database, keyring)
    async with database.transaction(organization_id=tenant.organization_id) as session:
        session.add(
            Membership(organization_id=tenant.organization_id, user_id=colleague.user_id, role="admin")
        )
        await session.flush()
        await session.execute(
            update(Membership).where(Membership.user_id == tenant.user_id).values(role="member")
        )
    theirs = await make_key(
        database,
        keyring,
        Tenant(
            tenant.organization_id, tenant.project_id, colleague.user_id, colleague.email, "", tenant.key_id
        ),
    )
    path = "/keys/{id}/revoke"
    assert (await ask(owner.browser, "POST", path, {}, external("key", theirs.row.id)))[0] == 403
    assert (await ask(owner.browser, "POST", path, {}, external("key", tenant.key_id)))[0] == 303


async def test_whoever_is_removed_from_the_organization_is_out_at_once(
    owner: Member, database: Database
) -> None:
    assert (await owner.browser.get("/overview")).status_code == 200
    async with database.transaction(organization_id=owner.tenant.organization_id) as session:
        await session.execute(delete(Membership).where(Membership.user_id == owner.tenant.user_id))
    for path in ("/overview", "/keys", "/limits"):
        assert (await owner.browser.get(path)).status_code == 303
    headers = {"authorization": f"Bearer {owner.tenant.api_key}"}
    assert (await owner.browser.http.get("/v1/models", headers=headers)).status_code == 401


def paths(site: RunningServer, method: str) -> list[str]:
    found = [r.path for r in site.app.routes if isinstance(r, HTTPRoute) and method in r.methods]
    return [path for path in found if not path.startswith(CLOSED_OTHERWISE)]


def filled(template: str, tenant: Tenant) -> str:
    """A route's path with ids of the tenant's own in it."""
    ids = ids_of(tenant)
    return template.replace("{key:str}", ids["key"]).replace("{scope_id:str}", ids["org"])


# By keys, by a signature (tests/billing/stripe/test_webhooks.py), by nothing: no cookie opens them.
CLOSED_OTHERWISE = ("/v1/", "/webhooks/", "/static/")


async def test_every_page_but_the_doors_asks_who_is_there(site: RunningServer, visitor: FormBrowser) -> None:
    closed = [path for path in paths(site, "GET") if path not in PUBLIC]
    assert {"/overview", "/keys", "/limits", "/auth/session"} <= set(closed)
    for path in closed:
        answer = await visitor.get(path)
        assert answer.status_code in (303, 401, 404), path
        assert answer.headers.get("location", "/sign-in").startswith("/sign-in"), path


async def test_no_page_brings_a_script_from_elsewhere(site: RunningServer, visitor: FormBrowser) -> None:
    """Whoever answers for such a script could make keys with the cookie of who looks at the page."""
    for path in paths(site, "GET"):
        text = (await visitor.get(path)).text
        assert 'src="http' not in text, path
        assert "//cdn" not in text, path


@pytest.mark.parametrize(
    "forgery",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "same-site"}],
    ids=str,
)
async def test_nothing_that_changes_anything_takes_a_form_of_another_site(
    site: RunningServer, owner: Member, forgery: dict[str, str]
) -> None:
    token = await csrf_of(owner.browser)
    changing = paths(site, "POST")
    assert len(changing) >= 15
    for path in (filled(template, owner.tenant) for template in changing):
        body: dict[str, Any] = {"data": {"csrf_token": token}}
        if path in WELL_FORMED:
            body = {"json": WELL_FORMED[path]}
        answer = await owner.browser.http.post(path, **body, headers=forgery)
        assert answer.status_code == 403, path
    assert (await owner.browser.get("/overview")).status_code == 200


async def test_nothing_that_changes_anything_for_somebody_goes_without_the_token(
    site: RunningServer, owner: Member
) -> None:
    templates = [path for path in paths(site, "POST") if path not in WELL_FORMED]
    assert len(templates) >= 10
    for path in (filled(template, owner.tenant) for template in templates):
        assert (await owner.browser.post(path, {"email": "a@example.com"})).status_code == 403, path


def no_backend(*_: object) -> NoReturn:
    raise ValueError("this server serves no model")


@pytest.fixture
async def plain_server(database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    """One that no proxy stands before."""
    settings = make_settings(tmp_path, trusted_proxies="")
    thread = ServerThread(settings, database_url, no_backend)
    yield thread.start().url
    thread.stop()
    async with database.transaction() as session:
        await throttle.clear(session, throttle.ADDRESS, "127.0.0.1")


async def test_an_address_that_a_client_claims_counts_for_nothing(plain_server: str) -> None:
    async with httpx.AsyncClient(base_url=plain_server) as guesser:
        answers = [
            await guesser.post(
                "/auth/signin",
                json={"email": an_email(), "password": "x" * 12},
                headers={"x-forwarded-for": an_address(), "x-real-ip": an_address()},
            )
            for _ in range(throttle.ADDRESS.free + 2)
        ]
    assert answers[0].status_code == 401
    assert answers[-1].status_code == 429
